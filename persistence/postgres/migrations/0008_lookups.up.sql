-- What administration and statistics look up: who did what, and the events of one checkout; and what pg_cron's job does.

create index if not exists session_events_actor_idx
  on session_events (actor_id, type, at) where actor_id is not null;
do $$
begin
  execute format(
    'create index if not exists session_requests_mechanic_idx on %s (mechanic_id, created_at) where mechanic_id is not null',
    coalesce(to_regclass('session_requests_archived'), to_regclass('session_requests'))
  );
end
$$;
-- A hash, for it takes ids of any length.
create index if not exists stripe_events_checkout_idx
  on stripe_events using hash ((payload #>> '{data,object,id}'));
create index if not exists stripe_events_received_idx on stripe_events (received_at, event_id);

comment on column credit_ledger.session_id is
  'The session debited or refunded; one debit and one refund each. Null: a grant, or a debit with its refund whose session never came to be and was booked again. May name a session not written yet.';

-- The job learns of HUB_ORPHAN_SECONDS by the setting that nodes write.
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
    for job in select jobid, jobname, schedule from cron.job where command = plain loop
      perform cron.unschedule(job.jobid);
      perform cron.schedule(job.jobname, job.schedule, by_setting);
    end loop;
  end if;
end
$$;

comment on table hub_settings is
  'What an admin changes without a restart, and orphan_seconds. An absent key means the built-in or environment value.';
comment on column hub_settings.key is
  'default_window_seconds, sequence_split or offline_policy; orphan_seconds, which nodes write for pg_cron''s job.';
