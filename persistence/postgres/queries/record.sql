-- Reading sessions back, and the few writes beside the journal. Times are ms.

-- name: sessions
select
  s.id::text, s.customer_user_id::text as customer_id, s.customer_name, s.customer_email,
  s.mechanic_id::text, btrim(m.first_name || ' ' || m.last_name) as mechanic_name, s.session_type, s.plan_code, s.payment, s.status, s.notes, s.is_urgent, s.request_type,
  s.requested_brand, s.workshop_id::text, s.metadata::text, s.version, s.command_id::text,
  (extract(epoch from s.created_at) * 1000)::bigint as created_at,
  (extract(epoch from s.updated_at) * 1000)::bigint as updated_at,
  (extract(epoch from s.started_at) * 1000)::bigint as started_at,
  (extract(epoch from s.ended_at) * 1000)::bigint as ended_at,
  a.status as assignment_status, a.routing_type, a.preferred_mechanic_id::text,
  btrim(p.first_name || ' ' || p.last_name) as preferred_mechanic_name, a.priority_window_minutes,
  (extract(epoch from a.priority_notified_at) * 1000)::bigint as priority_notified_at,
  (extract(epoch from a.expires_at) * 1000)::bigint as expires_at, a.fallback_reason,
  (extract(epoch from a.fallback_at) * 1000)::bigint as fallback_at,
  (extract(epoch from a.accepted_at) * 1000)::bigint as accepted_at
from sessions s
join session_assignments a on a.session_id = s.id
left join mechanics m on m.id = s.mechanic_id
left join mechanics p on p.id = a.preferred_mechanic_id

-- name: of_id
-- Ends `sessions`. $1 id
where s.id = $1::uuid

-- name: active
-- Ends `sessions`.
where s.status in ('pending', 'waiting', 'live', 'scheduled')

-- name: versions
-- $1 ids
select id::text, version from sessions where id = any ($1::uuid[])

-- name: of_ids
-- Ends `sessions`. $1 ids
where s.id = any ($1::uuid[])

-- name: active_after
-- Ends `sessions`. $1 customer, $2 limit; in the order of uq_active_session_per_customer
where s.status in ('pending', 'waiting', 'live', 'scheduled') and s.customer_user_id > $1::uuid
order by s.customer_user_id limit $2

-- name: active_of
-- Ends `sessions`. $1 customers
where s.status in ('pending', 'waiting', 'live', 'scheduled') and s.customer_user_id = any ($1::uuid[])

-- name: booked_since
-- $1 ms
select exists (select from sessions where created_at >= to_timestamp($1::bigint / 1000.0::float8))

-- name: events_of
-- $1 session id
select event_id::text, session_id::text, type, actor_id::text, (extract(epoch from at) * 1000)::bigint as at, version,
  data::text as data
from session_events where session_id = $1::uuid

-- name: expire_orphans
-- $1 age in ms
select expire_orphaned_sessions($1::bigint * interval '1 millisecond')

-- name: note_orphan_age
-- $1 age in seconds, for pg_cron's job, which knows the default without being told
with gone as (
  delete from hub_settings where key = 'orphan_seconds' and $1::float8 = 7200
)
insert into hub_settings (key, value)
select 'orphan_seconds', to_jsonb($1::float8) where $1::float8 <> 7200
on conflict (key) do update set value = excluded.value where hub_settings.value <> excluded.value

-- name: try_lock
-- $1 key; held until the connection ends
select pg_try_advisory_lock($1::bigint)

-- name: mirror_presence
-- $1 ids, $2 online, $3 last seen; rows that know something newer stay
with stale as (
  select m.id, r.is_online, to_timestamp(r.seen / 1000.0::float8) as seen
  from unnest($1::uuid[], $2::boolean[], $3::bigint[]) as r (id, is_online, seen)
  join mechanics m on m.id = r.id
  where m.last_seen_at is null or m.last_seen_at < to_timestamp(r.seen / 1000.0::float8)
  order by m.id for no key update of m
)
update mechanics m set is_online = stale.is_online, last_seen_at = stale.seen
from stale where m.id = stale.id
