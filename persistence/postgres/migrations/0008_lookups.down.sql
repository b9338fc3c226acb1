drop index if exists session_events_actor_idx;
drop index if exists session_requests_mechanic_idx;
drop index if exists stripe_events_checkout_idx;
drop index if exists stripe_events_received_idx;

comment on column credit_ledger.session_id is
  'The session debited or refunded, null for grants. One debit and one refund a session. May name a session not written yet.';

do $$
declare
  plain text := format('select %I.expire_orphaned_sessions()', current_schema());
  by_setting text := format(
    'select %1$I.expire_orphaned_sessions(coalesce((select make_interval(secs => value::float8) from %1$I.hub_settings '
    'where key = ''orphan_seconds''), ''2 hours''))', current_schema());
  job record;
begin
  if exists (
    select from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'cron' and p.proname = 'unschedule' and has_schema_privilege(n.oid, 'usage')
  ) then
    for job in select jobid, jobname, schedule from cron.job where command = by_setting loop
      perform cron.unschedule(job.jobid);
      perform cron.schedule(job.jobname, job.schedule, plain);
    end loop;
  end if;
end
$$;

delete from hub_settings where key = 'orphan_seconds';
comment on table hub_settings is 'What an admin changes without a restart. An absent key means the built-in or environment value.';
comment on column hub_settings.key is 'default_window_seconds, sequence_split or offline_policy.';
