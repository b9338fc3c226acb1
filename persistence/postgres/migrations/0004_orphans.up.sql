-- The safety net beneath the deadlines: whatever happens to nodes and Redis, no booking looks alive for ever.

create or replace function expire_orphaned_sessions(older_than interval default '2 hours') returns integer
language plpgsql
set search_path from current
as $$
declare
  orphan uuid;
  expired integer := 0;
begin
  for orphan in
    update sessions set status = 'expired', ended_at = now(), updated_at = now()
    where id in (
      select id from sessions
      where status in ('pending', 'waiting') and created_at < now() - older_than
      order by created_at
      -- A locked row is being moved by the journal writer at this moment: not an orphan, and not worth a deadlock.
      for update skip locked
    )
    returning id
  loop
    expired := expired + 1;
    perform pg_notify('hub_orphans', orphan::text);
  end loop;
  return expired;
end
$$;
comment on function expire_orphaned_sessions(interval) is
  'Sets pending or waiting sessions booked longer ago than older_than to expired and returns how many. Leaves version, and tells the nodes on channel hub_orphans, which then issue the command.';

do $$
begin
  if not exists (
    select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'cron' and p.proname = 'schedule' and has_schema_privilege(n.oid, 'usage')
  ) then
    raise notice 'pg_cron is not here: the reconciler of the hub expires orphaned sessions alone';
    return;
  end if;
  if not exists (select from cron.job where jobname = 'expire-orphaned-sessions') then
    perform cron.schedule(
      'expire-orphaned-sessions', '0 * * * *', format('select %I.expire_orphaned_sessions()', current_schema())
    );
  end if;
end
$$;
