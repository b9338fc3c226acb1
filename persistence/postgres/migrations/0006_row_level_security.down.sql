drop policy if exists session_events_read on session_events;
alter table session_events disable row level security;
drop policy if exists session_assignments_read on session_assignments;
alter table session_assignments disable row level security;
drop policy if exists session_participants_read on session_participants;
alter table session_participants disable row level security;
drop policy if exists sessions_read on sessions;
alter table sessions disable row level security;
drop policy if exists stripe_events_read on stripe_events;
alter table stripe_events disable row level security;
drop policy if exists credit_ledger_read on credit_ledger;
alter table credit_ledger disable row level security;
drop policy if exists customer_favorites_read on customer_favorites;
alter table customer_favorites disable row level security;
drop policy if exists customers_read on customers;
alter table customers disable row level security;
drop policy if exists mechanics_read on mechanics;
alter table mechanics disable row level security;

-- Under its own name, or beside a view of that name once it is archived.
do $$
declare
  older regclass := coalesce(to_regclass('session_requests_archived'), to_regclass('session_requests'));
begin
  execute format('drop policy if exists session_requests_read on %s', older);
  execute format('alter table %s disable row level security', older);
end
$$;

drop function if exists hub_claim_is_offered(uuid);
drop function if exists hub_claim_takes_part(uuid);
drop function if exists hub_claim_is_approved_mechanic();
drop function if exists hub_claim_role();
drop function if exists hub_claim_sub();
drop function if exists hub_claims();
