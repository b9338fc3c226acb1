-- What stands at the name session_requests once the older table is archived (`hub legacy archive`): sessions in its
-- columns, so that whoever asks there for bookings goes on seeing them.

create or replace function hub_show_archived_requests() returns void
language plpgsql
set search_path from current
as $$
declare
  older pg_class;
  shown text;
  readers text;
  about record;
begin
  select * into strict older from pg_class where oid = 'session_requests_archived'::regclass;
  -- An earlier deployment may have ordered the columns in another way, or have more of them.
  select string_agg(
    format('(%s)::%s as %I', coalesce(known.expression, 'null'), format_type(a.atttypid, a.atttypmod), a.attname),
    ', ' order by a.attnum
  ) into shown
  from pg_attribute a left join (values
    ('id', 's.id'),
    ('created_at', 's.created_at'),
    ('updated_at', 's.updated_at'),
    ('customer_id', 's.customer_user_id'),
    ('mechanic_id', 'a.mechanic_id'),
    ('session_type', 's.session_type'),
    ('plan_code', 's.plan_code'),
    ('status', $case$
      case when a.status in ('queued', 'offered', 'open') then 'pending'
        when a.status = 'accepted' then 'accepted' else 'cancelled' end
    $case$),
    ('customer_name', 's.customer_name'),
    ('customer_email', 's.customer_email'),
    ('notes', 's.notes'),
    ('accepted_at', 'a.accepted_at'),
    ('notification_sent_at', $first$
      select min(e.at) from session_events e where e.session_id = s.id and e.type in ('notified', 'broadcast')
    $first$),
    ('metadata', 's.metadata'),
    ('is_urgent', 's.is_urgent'),
    ('request_type', 's.request_type'),
    ('requested_brand', 's.requested_brand'),
    ('extracted_keywords', 's.extracted_keywords'),
    ('customer_country', 's.customer_country'),
    ('customer_city', 's.customer_city'),
    ('expires_at', 'a.expires_at'),
    ('is_follow_up', 's.is_follow_up'),
    ('preferred_workshop_id', 's.workshop_id'),
    ('routing_type', 'a.routing_type'),
    ('preferred_mechanic_id', 'a.preferred_mechanic_id'),
    ('priority_window_minutes', 'a.priority_window_minutes'),
    ('priority_notified_at', 'a.priority_notified_at')
  ) as known (name, expression) on known.name = a.attname
  where a.attrelid = older.oid and a.attnum > 0 and not a.attisdropped;

  -- A view reads with its owner's rights: it has to hold the older table's policy itself, and before any condition
  -- of a reader's that could tell what it sees.
  execute format($view$
    create view session_requests with (security_barrier) as
    select %s
    from sessions as s join session_assignments as a on a.session_id = s.id
    where not row_security_active('sessions'::regclass::oid)
      or (select hub_claim_role()) = 'admin'
      or ((select hub_claim_role()) = 'customer' and s.customer_user_id = (select hub_claim_sub()))
      or (
        (select hub_claim_role()) = 'mechanic'
        and (select hub_claim_sub()) in (a.mechanic_id, a.preferred_mechanic_id)
      )
  $view$, shown);

  select string_agg(distinct case grantee when 0 then 'public' else quote_ident(grantee::regrole::text) end, ', ')
  into readers
  from aclexplode(older.relacl) where privilege_type = 'SELECT' and grantee <> older.relowner;
  if readers is not null then
    execute format('grant select on session_requests to %s', readers);
  end if;

  comment on view session_requests is
    'Sessions in the columns of the archived older table, for who still reads them there. Not to be written to.';
  for about in
    select a.attname, col_description(a.attrelid, a.attnum) as text
    from pg_attribute a where a.attrelid = older.oid and a.attnum > 0 and not a.attisdropped
  loop
    execute format('comment on column session_requests.%I is %L', about.attname, about.text);
  end loop;
end
$$;
comment on function hub_show_archived_requests() is
  'Puts a view of sessions at the name session_requests, in the columns of session_requests_archived.';

do $$
begin
  if to_regclass('session_requests_archived') is not null and to_regclass('session_requests') is null then
    perform hub_show_archived_requests();
  end if;
end
$$;
