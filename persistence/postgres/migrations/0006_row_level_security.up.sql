-- Lets dashboards and PostgREST in safely: a claim sees its own rows, reading only. Who asks is in the setting
-- request.jwt.claims (JSON: sub, role). The owner of the tables, the hub's own role, is not bound by policies.

-- Each helper answers null or false for claims that are absent, empty or malformed: no rows, and no error either,
-- since an error would let a broken token take a dashboard down.

create or replace function hub_claims() returns jsonb
language plpgsql stable
as $$
begin
  return nullif(current_setting('request.jwt.claims', true), '')::jsonb;
exception when data_exception or program_limit_exceeded then
  return null;
end
$$;
comment on function hub_claims() is 'Claims of the current request as JSON, null where there are none or they are not JSON.';

create or replace function hub_claim_sub() returns uuid
language plpgsql stable
set search_path from current
as $$
begin
  return (hub_claims() ->> 'sub')::uuid;
exception when data_exception then
  return null;
end
$$;
comment on function hub_claim_sub() is 'User id of the current request, null where the claim is absent or no UUID.';

-- app_metadata is what only the issuer can write; user_metadata is the user's own and proves nothing.
create or replace function hub_claim_role() returns text
language sql stable
set search_path from current
as $$
  select case
    when claims ->> 'role' in ('mechanic', 'customer', 'admin', 'service') then claims ->> 'role'
    else claims #>> '{app_metadata,role}'
  end
  from hub_claims() as claims
$$;
comment on function hub_claim_role() is
  'mechanic, customer, admin or service: role of the current request, from claim role or app_metadata.role, else null.';

-- The next three read past the policies (security definer), or sessions and session_assignments would ask each other
-- without end. They answer for the current claims only.

create or replace function hub_claim_is_approved_mechanic() returns boolean
language sql stable security definer
set search_path from current
as $$
  select hub_claim_role() = 'mechanic'
    and exists (select from mechanics where id = hub_claim_sub() and status = 'approved')
$$;
comment on function hub_claim_is_approved_mechanic() is 'True where the current request is an approved mechanic''s.';

create or replace function hub_claim_takes_part(session uuid) returns boolean
language sql stable security definer
set search_path from current
as $$
  select case hub_claim_role()
    when 'customer' then exists (
      select from sessions s where s.id = session and s.customer_user_id = hub_claim_sub()
    )
    when 'mechanic' then exists (
      select from sessions s where s.id = session and s.mechanic_id = hub_claim_sub()
    ) or exists (
      select from session_participants p
      where p.session_id = session and p.user_id = hub_claim_sub() and p.role = 'mechanic'
    )
    else false
  end
$$;
comment on function hub_claim_takes_part(uuid) is
  'True where the current request''s user is the session''s customer, its mechanic, or a mechanic who once was.';

create or replace function hub_claim_is_offered(session uuid) returns boolean
language sql stable security definer
set search_path from current
as $$
  select hub_claim_is_approved_mechanic() and exists (
    select from session_assignments a
    where a.session_id = session
      and (a.status = 'open' or (a.status = 'offered' and a.preferred_mechanic_id = hub_claim_sub()))
  )
$$;
comment on function hub_claim_is_offered(uuid) is
  'True where the session is now offered to the current request''s mechanic, alone or with everyone.';

-- Scalar subqueries below make Postgres read the claims once a statement, not once a row.

alter table mechanics enable row level security;
drop policy if exists mechanics_read on mechanics;
create policy mechanics_read on mechanics for select using (
  (select hub_claim_role()) = 'admin'
  or ((select hub_claim_role()) = 'mechanic' and id = (select hub_claim_sub()))
);

alter table customers enable row level security;
drop policy if exists customers_read on customers;
create policy customers_read on customers for select using (
  (select hub_claim_role()) = 'admin'
  or ((select hub_claim_role()) = 'customer' and id = (select hub_claim_sub()))
);

alter table customer_favorites enable row level security;
drop policy if exists customer_favorites_read on customer_favorites;
create policy customer_favorites_read on customer_favorites for select using (
  (select hub_claim_role()) = 'admin'
  or ((select hub_claim_role()) = 'customer' and customer_id = (select hub_claim_sub()))
);

alter table credit_ledger enable row level security;
drop policy if exists credit_ledger_read on credit_ledger;
create policy credit_ledger_read on credit_ledger for select using (
  (select hub_claim_role()) = 'admin'
  or ((select hub_claim_role()) = 'customer' and customer_id = (select hub_claim_sub()))
);

alter table stripe_events enable row level security;
drop policy if exists stripe_events_read on stripe_events;
create policy stripe_events_read on stripe_events for select using ((select hub_claim_role()) = 'admin');

alter table sessions enable row level security;
drop policy if exists sessions_read on sessions;
create policy sessions_read on sessions for select using (
  (select hub_claim_role()) = 'admin'
  or ((select hub_claim_role()) = 'customer' and customer_user_id = (select hub_claim_sub()))
  or ((select hub_claim_role()) = 'mechanic' and (hub_claim_takes_part(id) or hub_claim_is_offered(id)))
);

alter table session_participants enable row level security;
drop policy if exists session_participants_read on session_participants;
create policy session_participants_read on session_participants for select using (
  (select hub_claim_role()) = 'admin' or hub_claim_takes_part(session_id)
);

alter table session_assignments enable row level security;
drop policy if exists session_assignments_read on session_assignments;
create policy session_assignments_read on session_assignments for select using (
  (select hub_claim_role()) = 'admin'
  or hub_claim_takes_part(session_id)
  or ((select hub_claim_role()) = 'mechanic' and hub_claim_is_offered(session_id))
);

-- Being offered a session does not show its events: they tell who else declined it.
alter table session_events enable row level security;
drop policy if exists session_events_read on session_events;
create policy session_events_read on session_events for select using (
  (select hub_claim_role()) = 'admin' or hub_claim_takes_part(session_id)
);

-- Under its own name, or beside a view of that name once it is archived.
do $$
declare
  older regclass := coalesce(to_regclass('session_requests_archived'), to_regclass('session_requests'));
begin
  execute format('alter table %s enable row level security', older);
  execute format('drop policy if exists session_requests_read on %s', older);
  execute format($policy$
    create policy session_requests_read on %s for select using (
      (select hub_claim_role()) = 'admin'
      or ((select hub_claim_role()) = 'customer' and customer_id = (select hub_claim_sub()))
      or (
        (select hub_claim_role()) = 'mechanic'
        and (select hub_claim_sub()) in (mechanic_id, preferred_mechanic_id)
      )
    )
  $policy$, older);
end
$$;
