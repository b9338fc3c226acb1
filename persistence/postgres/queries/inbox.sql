-- Stripe's events. What the hub wrote was received at a whole ms, so that a time and an id are a place in a list.

-- name: store
-- $1 id, $2 type, $3 payload
insert into stripe_events (event_id, type, payload, received_at)
values ($1, $2, $3::jsonb, date_trunc('milliseconds', now()))
on conflict (event_id) do nothing

-- name: stored
-- Of the payload only what a booking is made of; times are ms. Who pays by card need not be the customer: their name
-- and email stand in only where the customer's are not known.
select
  event_id, type, outcome, session_id::text, detail,
  floor(extract(epoch from received_at) * 1000)::bigint as received_at,
  floor(extract(epoch from handled_at) * 1000)::bigint as handled_at,
  payload #>> '{data,object,id}' as checkout_id,
  payload #>> '{data,object,payment_status}' as payment_status,
  coalesce(nullif(c.full_name, ''), payload #>> '{data,object,customer_details,name}') as customer_name,
  coalesce(nullif(c.email, ''), payload #>> '{data,object,customer_details,email}') as customer_email,
  (payload #> '{data,object,metadata}')::text as metadata
from stripe_events
left join customers c on c.id = substring(
  payload #>> '{data,object,metadata,customer_id}' from '(?i)^\s*([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s*$'
)::uuid

-- name: of_id
-- Ends `stored`. $1 id
where event_id = $1

-- name: left
-- Ends `stored`. $1 older than seconds, $2 limit, $3 received, ms, and $4 id of the one before
where handled_at is null and received_at < now() - $1::float8 * interval '1 second'
  and (received_at, event_id) > (timestamptz 'epoch' + $3::bigint * interval '1 millisecond', $4)
order by received_at, event_id limit $2

-- name: siblings
-- Ends `stored`. $1 checkout, $2 the event itself
where payload #>> '{data,object,id}' = $1 and event_id <> $2 order by received_at, event_id limit 100

-- name: before
-- Goes on with `where` behind `stored`. $1 limit, $2 received, ms, and $3 id of the one before; null: from the newest
where ($2::bigint is null
  or (received_at, event_id) < (timestamptz 'epoch' + $2::bigint * interval '1 millisecond', $3::text))

-- name: with_outcome
-- Goes on with `before`. $4 outcome
and outcome = $4

-- name: unhandled
-- Goes on with `before`.
and handled_at is null

-- name: newest
-- Ends a page.
order by received_at desc, event_id desc limit $1

-- name: finish
-- $1 id, $2 outcome, $3 session, $4 detail. A booking stands, whoever thought meanwhile that there was none.
update stripe_events set handled_at = now(), outcome = $2, session_id = $3::uuid, detail = $4
where event_id = $1
  and (handled_at is null or (outcome = 'needs_attention' and $2 = 'dispatched'))
returning event_id

-- name: reopen
-- $1 id
update stripe_events set handled_at = null, outcome = null, detail = null
where event_id = $1 and outcome = 'needs_attention'
returning event_id
