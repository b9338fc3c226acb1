-- One mechanic's numbers. $1 mechanic; $2 days to look back, null: all time.

-- name: favorites
-- $2 names at most
select
  (select count(*) from customer_favorites where mechanic_id = $1) as favorited_by,
  array(
    select btrim(c.full_name)
    from customer_favorites f join customers c on c.id = f.customer_id
    where f.mechanic_id = $1 and btrim(c.full_name) <> ''
    order by f.created_at desc, f.customer_id limit $2
  ) as favorited_by_customers

-- name: priority
-- By the actor, not by the assignment: a sequence asks several, and the assignment remembers the last one only.
with asked as (
  select
    session_id,
    min(at) filter (where type = 'notified') as notified_at,
    min(at) filter (where type = 'accepted') as accepted_at,
    min(at) filter (where type = 'declined') as declined_at
  from session_events
  where actor_id = $1 and type in ('notified', 'accepted', 'declined')
    and (type = 'notified' or (data ->> 'priority')::boolean)
    and at >= coalesce(now() - make_interval(days => $2::integer), '-infinity')
  group by session_id
),
offer as (
  select
    accepted_at, declined_at,
    case when least(accepted_at, declined_at) >= notified_at then
      extract(epoch from least(accepted_at, declined_at) - notified_at)::double precision
    end as seconds,
    exists (
      select from session_events e
      where e.session_id = asked.session_id and e.type = 'offer_expired' and e.data ->> 'mechanic_id' = $1::text
        and e.data ->> 'reason' = 'priority_timeout'
    ) as expired
  from asked
)
select
  count(*) as offers,
  count(accepted_at) as accepted,
  count(declined_at) as declined,
  count(*) filter (where expired) as expired,
  count(accepted_at)::double precision / nullif(count(*), 0) as accept_rate,
  avg(seconds) as average,
  percentile_cont(0.5) within group (order by seconds) as median,
  min(seconds) as min,
  max(seconds) as max
from offer

-- name: sessions
-- As analytics_repeat_customers counts, for one mechanic.
select
  coalesce(sum(accepted), 0)::bigint as accepted,
  coalesce(sum(completed), 0)::bigint as completed,
  count(*) filter (where served > 1) as customers,
  coalesce(sum(served) filter (where served > 1), 0)::bigint as sessions,
  coalesce(sum(value_cents) filter (where served > 1), 0)::bigint as value_cents
from (
  select
    count(*) as accepted,
    count(*) filter (where r.session_status = 'completed') as completed,
    count(*) filter (where r.session_status not in ('cancelled', 'expired')) as served,
    coalesce(sum(p.price_cents) filter (
      where r.payment = 'paid' and r.session_status not in ('cancelled', 'expired')
    ), 0) as value_cents
  from booking_requests r left join plans p on p.plan_code = r.plan_code
  where r.mechanic_id = $1 and r.status = 'accepted'
    and r.created_at >= coalesce(now() - make_interval(days => $2::integer), '-infinity')
  group by r.customer_id
) as customer
