-- Reading sessions back, and the few writes beside the journal. Times are ms.

-- name: sessions
select
  s.id::text, s.customer_user_id::text as customer_id, s.customer_name, s.customer_email,
  s.mechanic_id::text, s.session_type, s.plan_code, s.payment, s.status, s.notes, s.is_urgent, s.request_type,
  s.requested_brand, s.workshop_id::text, s.metadata::text, s.version,
  (extract(epoch from s.created_at) * 1000)::bigint as created_at,
  (extract(epoch from s.updated_at) * 1000)::bigint as updated_at,
  (extract(epoch from s.started_at) * 1000)::bigint as started_at,
  (extract(epoch from s.ended_at) * 1000)::bigint as ended_at,
  a.status as assignment_status, a.routing_type, a.preferred_mechanic_id::text, a.priority_window_minutes,
  (extract(epoch from a.priority_notified_at) * 1000)::bigint as priority_notified_at,
  (extract(epoch from a.expires_at) * 1000)::bigint as expires_at, a.fallback_reason,
  (extract(epoch from a.fallback_at) * 1000)::bigint as fallback_at,
  (extract(epoch from a.accepted_at) * 1000)::bigint as accepted_at
from sessions s join session_assignments a on a.session_id = s.id

-- name: of_id
-- Ends `sessions`. $1 id
where s.id = $1::uuid

-- name: active
-- Ends `sessions`.
where s.status in ('pending', 'waiting', 'live', 'scheduled') order by s.created_at, s.id

-- name: expire_orphans
-- $1 age in ms
select expire_orphaned_sessions($1::bigint * interval '1 millisecond')

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
