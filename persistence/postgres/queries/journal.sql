-- What a drain says to Postgres. Times are ms. Rows are written in the order of their ids, so that two writers wait
-- for each other instead of deadlocking; rows that would change nothing are left out before they are locked.

-- name: limits
-- A writer that stalls between reading Redis and committing holds the shards' cursors. Plans are made once, and go by
-- the index: those for tables of a few rows would read all of them as they grow, until they are analysed.
select set_config('idle_in_transaction_session_timeout', '5s', true), set_config('lock_timeout', '2s', true),
  set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)

-- name: turn
-- One writer of memories after the other; any number that nobody else uses.
select pg_advisory_xact_lock(6875625201);

-- name: ensure_cursors
-- $1 shards, $2 epochs
insert into journal_cursor (shard, epoch, last_id)
select shard, epoch, '' from unnest($1::integer[], $2::text[]) as r (shard, epoch)
order by shard
on conflict (shard) do nothing

-- name: lock_cursors
-- Follows a CTE of `limits`. $1 shards; those that another writer holds are missing from the answer
select c.shard, c.epoch, c.last_id from journal_cursor c cross join limits where c.shard = any ($1::integer[])
order by c.shard for update of c skip locked

-- name: cursors
select shard, epoch, last_id from journal_cursor

-- name: begin
-- $1 shards, $2 epochs
insert into journal_cursor as c (shard, epoch, last_id)
select shard, epoch, '' from unnest($1::integer[], $2::text[]) as r (shard, epoch)
order by shard
on conflict (shard) do update set epoch = excluded.epoch, last_id = '', updated_at = now()

-- name: move_cursors
-- $1 shards, $2 epochs, $3 last ids; the rows are locked by this transaction
update journal_cursor c set epoch = r.epoch, last_id = r.last_id, updated_at = now()
from unnest($1::integer[], $2::text[], $3::text[]) as r (shard, epoch, last_id)
where c.shard = r.shard

-- name: lives
-- $1 shards; `begin` waits for this transaction
select shard, epoch from journal_cursor where shard = any ($1::integer[]) order by shard for share

-- name: blocked
-- $1 sessions, $2 customers, $3 versions, in the order of booking; $4 sessions that the same batch ends, $5 versions of
-- that. Those that would be their customer's second active one. What the record has as new is no news of it.
with news as (
  select r.* from unnest($1::uuid[], $2::uuid[], $3::bigint[]) with ordinality as r (id, customer_id, version, place)
  where not exists (select from sessions k where k.id = r.id and k.version >= r.version)
)
select r.id::text from news r
where exists (select from news e where e.customer_id = r.customer_id and e.place < r.place)
  or exists (
    select from sessions s
    where s.customer_user_id = r.customer_id and s.id <> r.id
      and s.status in ('pending', 'waiting', 'live', 'scheduled')
      and not exists (
        select from unnest($4::uuid[], $5::bigint[]) as o (id, version) where o.id = s.id and o.version > s.version
      )
  )

-- name: forks
-- $1 positions, $2 session ids, $3 versions, $4 commands; the positions that disagree with the row of their version
select r.position
from unnest($1::integer[], $2::uuid[], $3::bigint[], $4::uuid[]) as r (position, id, version, command_id)
join sessions s on s.id = r.id and s.version = r.version and s.command_id <> r.command_id

-- name: customers
-- $1 session ids, $2 customer ids, $3 names, $4 emails, $5 booked at. Only a booking brings a name: a later change
-- of its session must not undo what people corrected since.
insert into customers as known (id, full_name, email, created_at)
select r.id, r.full_name, r.email, to_timestamp(r.created_at / 1000.0::float8)
from (
  select b.customer_id as id, min(b.created_at) as created_at,
    (array_agg(b.full_name order by b.created_at desc) filter (where b.full_name is not null and s.id is null))[1]
      as full_name,
    (array_agg(b.email order by b.created_at desc) filter (where b.email is not null and s.id is null))[1] as email
  from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
    as b (session_id, customer_id, full_name, email, created_at)
  left join sessions s on s.id = b.session_id
  group by b.customer_id
) as r
left join customers c on c.id = r.id
where c.id is null or r.full_name <> coalesce(c.full_name, '') or r.email <> coalesce(c.email, '')
order by r.id
on conflict (id) do update set
  full_name = coalesce(excluded.full_name, known.full_name), email = coalesce(excluded.email, known.email)

-- name: sessions
insert into sessions as s (
  id, customer_user_id, mechanic_id, session_type, plan_code, payment, status, customer_name, customer_email, notes,
  is_urgent, request_type, requested_brand, workshop_id, metadata, created_at, updated_at, started_at, ended_at,
  version, command_id
)
select
  r.id, r.customer_id, m.id, r.session_type, r.plan_code, r.payment, r.status, r.customer_name, r.customer_email,
  r.notes, r.is_urgent, r.request_type, r.requested_brand, r.workshop_id, r.metadata::jsonb,
  to_timestamp(r.created_at / 1000.0::float8), to_timestamp(r.updated_at / 1000.0::float8),
  to_timestamp(r.started_at / 1000.0::float8), to_timestamp(r.ended_at / 1000.0::float8), r.version, r.command_id
from unnest(
  $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
  $10::text[], $11::boolean[], $12::text[], $13::text[], $14::uuid[], $15::text[], $16::bigint[], $17::bigint[],
  $18::bigint[], $19::bigint[], $20::bigint[], $21::uuid[]
) as r (
  id, customer_id, mechanic_id, session_type, plan_code, payment, status, customer_name, customer_email,
  notes, is_urgent, request_type, requested_brand, workshop_id, metadata, created_at, updated_at,
  started_at, ended_at, version, command_id
)
-- A mechanic who was deleted meanwhile becomes null, as the foreign key does to older rows.
left join mechanics m on m.id = r.mechanic_id
order by r.id
on conflict (id) do update set
  customer_user_id = excluded.customer_user_id, mechanic_id = excluded.mechanic_id,
  session_type = excluded.session_type, plan_code = excluded.plan_code, payment = excluded.payment,
  status = excluded.status, customer_name = excluded.customer_name, customer_email = excluded.customer_email,
  notes = excluded.notes, is_urgent = excluded.is_urgent, request_type = excluded.request_type,
  requested_brand = excluded.requested_brand, workshop_id = excluded.workshop_id, metadata = excluded.metadata,
  created_at = excluded.created_at, updated_at = excluded.updated_at, started_at = excluded.started_at,
  ended_at = excluded.ended_at, version = excluded.version, command_id = excluded.command_id
where excluded.version > s.version

-- name: joins
-- $1 session ids, $2 user ids, $3 roles, $4 joined at, $5 left at or null. A later joining opens the row again.
insert into session_participants as p (session_id, user_id, role, joined_at, left_at)
select r.session_id, r.user_id, r.role, r.joined_at, r.left_at
from (
  select session_id, user_id, role,
    to_timestamp(joined / 1000.0::float8) as joined_at, to_timestamp("left" / 1000.0::float8) as left_at
  from unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::bigint[])
    as u (session_id, user_id, role, joined, "left")
) as r
left join session_participants k on k.session_id = r.session_id and k.user_id = r.user_id
where k.session_id is null or r.joined_at > k.joined_at
  or (r.joined_at = k.joined_at and k.left_at is null and r.left_at is not null)
order by r.session_id, r.user_id
on conflict (session_id, user_id) do update
  set role = excluded.role, joined_at = excluded.joined_at, left_at = excluded.left_at
where excluded.joined_at > p.joined_at
  or (excluded.joined_at = p.joined_at and p.left_at is null and excluded.left_at is not null)

-- name: leaves
-- $1 session ids, $2 user ids (null: everyone who is still in), $3 left at
update session_participants p set left_at = r.left_at
from (
  select session_id, user_id, to_timestamp("left" / 1000.0::float8) as left_at
  from unnest($1::uuid[], $2::uuid[], $3::bigint[]) as u (session_id, user_id, "left")
) as r
where p.session_id = r.session_id and (r.user_id is null or p.user_id = r.user_id)
  and p.left_at is null and p.joined_at <= r.left_at

-- name: assignments
insert into session_assignments as a (
  id, session_id, mechanic_id, status, routing_type, wave, preferred_mechanic_id, priority_window_minutes,
  priority_notified_at, expires_at, fallback_reason, fallback_at, accepted_at, created_at, updated_at, version
)
select
  r.id, r.session_id, m.id, r.status, r.routing_type, r.wave, p.id, r.priority_window_minutes,
  to_timestamp(r.priority_notified_at / 1000.0::float8), to_timestamp(r.expires_at / 1000.0::float8),
  r.fallback_reason, to_timestamp(r.fallback_at / 1000.0::float8), to_timestamp(r.accepted_at / 1000.0::float8),
  to_timestamp(r.created_at / 1000.0::float8), to_timestamp(r.updated_at / 1000.0::float8), r.version
from unnest(
  $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::integer[], $7::uuid[], $8::integer[],
  $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[]
) as r (
  id, session_id, mechanic_id, status, routing_type, wave, preferred_mechanic_id, priority_window_minutes,
  priority_notified_at, expires_at, fallback_reason, fallback_at, accepted_at, created_at, updated_at, version
)
left join mechanics m on m.id = r.mechanic_id
left join mechanics p on p.id = r.preferred_mechanic_id
order by r.id
on conflict (id) do update set
  mechanic_id = excluded.mechanic_id, status = excluded.status, routing_type = excluded.routing_type,
  wave = excluded.wave, preferred_mechanic_id = excluded.preferred_mechanic_id,
  priority_window_minutes = excluded.priority_window_minutes, priority_notified_at = excluded.priority_notified_at,
  expires_at = excluded.expires_at, fallback_reason = excluded.fallback_reason, fallback_at = excluded.fallback_at,
  accepted_at = excluded.accepted_at, created_at = excluded.created_at, updated_at = excluded.updated_at,
  version = excluded.version
where excluded.version > a.version

-- name: refunds
-- $1 ids of sessions that ended before they began: what was taken for them comes back, once. Not where the row knows
-- of a later life of the session.
insert into credit_ledger (customer_id, session_id, delta, reason)
select d.customer_id, d.session_id, -d.delta, 'refund'
from credit_ledger d join sessions s on s.id = d.session_id
where d.session_id = any ($1::uuid[]) and d.reason = 'debit'
  and s.status in ('cancelled', 'expired') and s.started_at is null
order by d.session_id
on conflict (session_id, reason) do nothing

-- name: events
insert into session_events (event_id, session_id, assignment_id, type, actor_id, at, version, data)
select event_id, session_id, assignment_id, type, actor_id, to_timestamp(at / 1000.0::float8), version, data::jsonb
from unnest(
  $1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::bigint[], $7::bigint[], $8::text[]
) as r (event_id, session_id, assignment_id, type, actor_id, at, version, data)
on conflict (event_id) do nothing
