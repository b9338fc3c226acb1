-- Every node caches people and switches; these triggers tell it which entry is stale, whoever made the change.
-- Channel hub_changes, payload {"table": <name>, "key": <text or null>}; a null key means all of the table.

create or replace function hub_notify_change() returns trigger
language plpgsql as $$
declare
  old_key text;
  new_key text;
begin
  if tg_op = 'TRUNCATE' then
    perform pg_notify('hub_changes', json_build_object('table', tg_table_name, 'key', null)::text);
    return null;
  end if;
  if tg_op in ('UPDATE', 'DELETE') then
    old_key := to_jsonb(old) ->> tg_argv[0];
    perform pg_notify('hub_changes', json_build_object('table', tg_table_name, 'key', old_key)::text);
  end if;
  if tg_op in ('INSERT', 'UPDATE') then
    new_key := to_jsonb(new) ->> tg_argv[0];
    -- Postgres sends equal payloads of one transaction once, so an unchanged key costs nothing.
    perform pg_notify('hub_changes', json_build_object('table', tg_table_name, 'key', new_key)::text);
  end if;
  return null;
end
$$;
comment on function hub_notify_change() is
  'Trigger function: tells every node on channel hub_changes which row changed. Argument: the key column.';

create or replace trigger feature_flags_notify after insert or update or delete on feature_flags
  for each row execute function hub_notify_change('flag_key');
create or replace trigger feature_flags_notify_truncate after truncate on feature_flags
  for each statement execute function hub_notify_change();

create or replace trigger hub_settings_notify after insert or update or delete on hub_settings
  for each row execute function hub_notify_change('key');
create or replace trigger hub_settings_notify_truncate after truncate on hub_settings
  for each statement execute function hub_notify_change();

create or replace trigger plans_notify after insert or update or delete on plans
  for each row execute function hub_notify_change('plan_code');
create or replace trigger plans_notify_truncate after truncate on plans
  for each statement execute function hub_notify_change();

create or replace trigger customer_favorites_notify after insert or update or delete on customer_favorites
  for each row execute function hub_notify_change('customer_id');
create or replace trigger customer_favorites_notify_truncate after truncate on customer_favorites
  for each statement execute function hub_notify_change();

create or replace trigger mechanics_notify after insert or delete on mechanics
  for each row execute function hub_notify_change('id');
-- The presence mirror writes these columns all day, and nobody caches them.
create or replace trigger mechanics_notify_update after update on mechanics
  for each row when (
    (to_jsonb(old) - '{is_online,last_seen_at,updated_at}'::text[])
    is distinct from (to_jsonb(new) - '{is_online,last_seen_at,updated_at}'::text[])
  ) execute function hub_notify_change('id');
create or replace trigger mechanics_notify_truncate after truncate on mechanics
  for each statement execute function hub_notify_change();
