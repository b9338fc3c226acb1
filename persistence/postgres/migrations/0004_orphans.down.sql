do $$
begin
  if exists (
    select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'cron' and p.proname = 'unschedule' and has_schema_privilege(n.oid, 'usage')
  ) then
    perform cron.unschedule(jobid) from cron.job where jobname = 'expire-orphaned-sessions';
  end if;
end
$$;
drop function if exists expire_orphaned_sessions(interval);
