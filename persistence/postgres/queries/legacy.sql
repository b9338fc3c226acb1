-- The older table into sessions, and away. `older_table` stands for session_requests, or for
-- session_requests_archived where it is called so already. A row that is imported has metadata.imported.hub: the
-- booking app may have a key `imported` of its own, which is kept beside it as `before`.

-- name: name
-- The older table's name; null where there is none.
select coalesce(to_regclass('session_requests_archived'), to_regclass('session_requests'))::text

-- name: imported
select count(*) from older_table where metadata #> '{imported,hub}' is not null

-- name: not_imported
select count(*) from older_table where metadata #> '{imported,hub}' is null

-- name: take
-- $1, $2 created_at and id of the last one taken, $3 how many. Waits for who is at one of them; what another import
-- has flagged meanwhile drops out.
select created_at::text, id::text from older_table
where metadata #> '{imported,hub}' is null and (created_at, id) > ($1::text::timestamptz, $2::uuid)
order by created_at, id limit $3
for update

-- name: known
-- $1 ids, $2 their assignments' ids, $3 ids of the events that an import writes. Those that are there already, and
-- whether an import brought them.
select r.id::text, e.event_id is not null as imported
from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as r (id, assignment_id, event_id)
left join session_events e on e.event_id = r.event_id and e.data ->> 'imported' is not null
where exists (select from sessions s where s.id = r.id)
  or exists (select from session_assignments a where a.id = r.assignment_id)

-- name: flag
-- $1 ids
update older_table as r
set metadata = case jsonb_typeof(r.metadata) when 'object' then r.metadata else jsonb_build_object('value', r.metadata) end
  || jsonb_build_object(
    'imported', jsonb_strip_nulls(jsonb_build_object('hub', now(), 'before', r.metadata -> 'imported'))
  )
where r.id = any ($1::uuid[])

-- name: import
-- $1 ids, $2 their assignments' ids. Returns what events are made of; times in ms.
-- How a row counts (its payment, routing, fallback) is asked of booking_requests: reports say the same before and after.
with older as (
  select
    r.id, ids.assignment_id, r.customer_id, r.mechanic_id as accepted_by, m.id as mechanic_id,
    p.id as preferred_mechanic_id, b.session_type, r.plan_code, b.payment, r.status::text as older_status,
    case r.status::text when 'accepted' then 'completed' when 'cancelled' then 'cancelled' else 'expired' end as status,
    r.customer_name, r.customer_email, r.notes, coalesce(r.is_urgent, false) as is_urgent,
    case r.request_type when 'brand_specialist' then r.request_type else 'general' end as request_type,
    r.requested_brand, coalesce(r.extracted_keywords, '{}') as extracted_keywords, r.customer_country,
    r.customer_city, coalesce(r.is_follow_up, false) as is_follow_up, r.preferred_workshop_id,
    case jsonb_typeof(r.metadata) when 'object' then r.metadata
      else jsonb_build_object('value', r.metadata) end as metadata,
    b.routing_type, greatest(r.priority_window_minutes, 1) as priority_window_minutes, b.priority_notified_at,
    t.sent_at as notification_sent_at, t.expires_at, b.accepted_at, b.fallback_reason,
    case when b.fallback_reason is not null then
      b.priority_notified_at + make_interval(mins => r.priority_window_minutes)
    end as fallback_at,
    t.created_at, t.updated_at,
    greatest(t.created_at, case r.status::text
      when 'accepted' then greatest(b.accepted_at, t.updated_at)
      when 'cancelled' then t.updated_at
      else least(coalesce(t.expires_at, t.updated_at), now())
    end) as ended_at
  from unnest($1::uuid[], $2::uuid[]) as ids (id, assignment_id)
  join older_table r on r.id = ids.id
  join booking_requests b on b.id = r.id and b.source = 'older' and b.id = any ($1::uuid[])
  -- Sessions and events have no infinite times: what stands for one is the time nearest to it that is known.
  cross join lateral (
    select
      case when isfinite(r.created_at) then r.created_at when isfinite(r.updated_at) then r.updated_at else now() end
        as created_at,
      case when isfinite(r.updated_at) then r.updated_at when isfinite(r.created_at) then r.created_at else now() end
        as updated_at,
      case when isfinite(r.notification_sent_at) then r.notification_sent_at end as sent_at,
      case when isfinite(r.expires_at) then r.expires_at end as expires_at
  ) t
  left join mechanics m on m.id = r.mechanic_id
  left join mechanics p on p.id = r.preferred_mechanic_id
),
new_customers as (
  insert into customers (id, full_name, email, created_at)
  select distinct on (customer_id) customer_id, customer_name, customer_email, created_at
  from older order by customer_id, created_at
  on conflict (id) do nothing
),
new_sessions as (
  insert into sessions (
    id, customer_user_id, mechanic_id, session_type, plan_code, payment, status, customer_name, customer_email, notes,
    is_urgent, request_type, requested_brand, extracted_keywords, customer_country, customer_city, is_follow_up,
    workshop_id, metadata, created_at, updated_at, ended_at, version
  )
  select
    id, customer_id, mechanic_id, session_type, plan_code, payment, status, customer_name, customer_email, notes,
    is_urgent, request_type, requested_brand, extracted_keywords, customer_country, customer_city, is_follow_up,
    preferred_workshop_id, metadata, created_at, updated_at, ended_at, 1
  from older
),
new_assignments as (
  insert into session_assignments (
    id, session_id, mechanic_id, status, routing_type, preferred_mechanic_id, priority_window_minutes,
    priority_notified_at, expires_at, fallback_reason, fallback_at, accepted_at, created_at, updated_at, version
  )
  select
    assignment_id, id, mechanic_id, case status when 'completed' then 'accepted' else status end, routing_type,
    preferred_mechanic_id, priority_window_minutes, priority_notified_at, expires_at, fallback_reason, fallback_at,
    accepted_at, created_at, updated_at, 1
  from older
),
new_participants as (
  insert into session_participants (session_id, user_id, role, joined_at, left_at)
  select id, customer_id, 'customer', created_at, ended_at from older
  union all
  select id, accepted_by, 'mechanic', coalesce(accepted_at, created_at), ended_at from older
  where accepted_by <> customer_id
)
select
  id::text, status, customer_id::text, accepted_by::text, preferred_mechanic_id::text, fallback_reason,
  (extract(epoch from created_at) * 1000)::bigint as created,
  (extract(epoch from priority_notified_at) * 1000)::bigint as notified,
  (extract(epoch from notification_sent_at) * 1000)::bigint as sent,
  (extract(epoch from fallback_at) * 1000)::bigint as fell_back,
  (extract(epoch from accepted_at) * 1000)::bigint as accepted,
  (extract(epoch from ended_at) * 1000)::bigint as ended
from older

-- name: lock
-- Readers go on; writers wait for the end of the archiving.
set local lock_timeout = '5s';
set local time zone 'UTC';
lock table session_requests in share row exclusive mode

-- name: rows
-- Each as JSON, oldest first
select to_jsonb(r)::text from session_requests r order by created_at, id

-- name: archive
alter table session_requests rename to session_requests_archived;
select hub_show_archived_requests()
