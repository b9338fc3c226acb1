-- What the cache reads: by keys where there are many rows, whole where there are few.

-- name: mechanics
-- $1 ids
select id::text, btrim(first_name || ' ' || last_name) as name, status, priority_window_minutes
from mechanics where id = any ($1::uuid[])

-- name: favorites
-- $1 customer ids; each with its mechanics, first choice first
select customer_id::text as id, array_agg(mechanic_id::text order by rank, created_at, mechanic_id) as mechanics
from customer_favorites where customer_id = any ($1::uuid[])
group by customer_id

-- name: digest
-- $1 ids of mechanics, $2 ids of customers; another text whenever one of their rows is another
select concat_ws(' ',
  (select sum(hashtextextended(concat_ws('|', id, first_name, last_name, status, priority_window_minutes), 0))
   from mechanics where id = any ($1::uuid[])),
  (select sum(hashtextextended(concat_ws('|', customer_id, mechanic_id, rank, created_at), 0))
   from customer_favorites where customer_id = any ($2::uuid[]))) as digest

-- name: plans
select plan_code, name, session_type, price_cents, credits, priority_window_minutes, is_active
from plans order by price_cents, plan_code

-- name: flags
select flag_key, flag_name, description, is_enabled, enabled_for_roles, rollout_percentage
from feature_flags order by flag_key

-- name: settings
select key, value::text as value from hub_settings

-- name: set_settings
-- $1 keys, $2 values as JSON
insert into hub_settings (key, value)
select key, value::jsonb from unnest($1::text[], $2::text[]) as r (key, value) order by key
on conflict (key) do update set value = excluded.value

-- name: set_flag
-- $1 key; null leaves a column as it is
update feature_flags set
  is_enabled = coalesce($2::boolean, is_enabled),
  enabled_for_roles = coalesce($3::text[], enabled_for_roles),
  rollout_percentage = coalesce($4::integer, rollout_percentage)
where flag_key = $1
returning flag_key, flag_name, description, is_enabled, enabled_for_roles, rollout_percentage
