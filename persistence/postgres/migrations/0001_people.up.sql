-- People, switches and money: what the hub reads but sessions do not own.
-- Names are unqualified on purpose: the migrator chooses the schema by search_path.

create or replace function hub_touch_updated_at() returns trigger
language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function hub_touch_updated_at() is
  'Trigger function: keeps updated_at true for rows that people change by plain SQL.';

-- mechanics ------------------------------------------------------------------------------------------------

create table if not exists mechanics (
  id uuid not null,
  first_name text not null default '',
  last_name text not null default '',
  status text not null default 'pending',
  is_online boolean not null default false,
  last_seen_at timestamptz,
  tier text,
  brands text[] not null default '{}',
  priority_window_minutes integer,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint mechanics_pkey primary key (id),
  constraint mechanics_status_check check (status in ('pending', 'approved', 'suspended')),
  constraint mechanics_priority_window_minutes_check check (priority_window_minutes between 1 and 60)
);
create or replace trigger mechanics_touch_updated_at before update on mechanics
  for each row execute function hub_touch_updated_at();

comment on table mechanics is 'Everyone who answers requests, one row each. Changes by plain SQL hold on every node at once.';
comment on column mechanics.id is 'The sub claim of the mechanic''s token.';
comment on column mechanics.first_name is 'Given name, shown to customers.';
comment on column mechanics.last_name is 'Family name.';
comment on column mechanics.status is 'pending, approved or suspended. Only approved mechanics are offered work.';
comment on column mechanics.is_online is
  'Mirror of presence (online, busy and away count as true), written late. Ask the presence API for the live value.';
comment on column mechanics.last_seen_at is 'When presence last changed; guards is_online against late writers. Null: never seen.';
comment on column mechanics.tier is 'Free label for reports and pricing, null where unused.';
comment on column mechanics.brands is 'Car brands this mechanic specialises in, empty for generalists.';
comment on column mechanics.priority_window_minutes is
  'This mechanic''s own priority window, 1 to 60 minutes. Null: the plan''s, else the default.';
comment on column mechanics.created_at is 'When the row was made.';
comment on column mechanics.updated_at is 'When the row last changed, the presence mirror included.';

-- customers ------------------------------------------------------------------------------------------------

create table if not exists customers (
  id uuid not null,
  full_name text,
  email text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint customers_pkey primary key (id)
);
create or replace trigger customers_touch_updated_at before update on customers
  for each row execute function hub_touch_updated_at();

comment on table customers is 'Everyone who books, one row each; a token''s first booking makes it.';
comment on column customers.id is 'The sub claim of the customer''s token.';
comment on column customers.full_name is 'Name from the token, null where it had none.';
comment on column customers.email is 'Email from the token, null where it had none. Personal data: keep it out of dashboards.';
comment on column customers.created_at is 'When the customer was first seen.';
comment on column customers.updated_at is 'When the row last changed.';

-- customer_favorites ---------------------------------------------------------------------------------------

create table if not exists customer_favorites (
  customer_id uuid not null,
  mechanic_id uuid not null,
  rank integer not null default 0,
  created_at timestamptz not null default now(),
  constraint customer_favorites_pkey primary key (customer_id, mechanic_id),
  constraint customer_favorites_customer_id_fkey foreign key (customer_id) references customers (id) on delete cascade,
  constraint customer_favorites_mechanic_id_fkey foreign key (mechanic_id) references mechanics (id) on delete cascade
);
create index if not exists customer_favorites_mechanic_idx on customer_favorites (mechanic_id);

comment on table customer_favorites is 'Which mechanics a customer prefers, in order. Count by mechanic_id for "favorited by".';
comment on column customer_favorites.customer_id is 'Whose favourite.';
comment on column customer_favorites.mechanic_id is 'The favourite mechanic.';
comment on column customer_favorites.rank is 'Lower is asked first; equal ranks go by created_at.';
comment on column customer_favorites.created_at is 'When the favourite was added.';

-- feature_flags --------------------------------------------------------------------------------------------

create table if not exists feature_flags (
  flag_key text not null,
  flag_name text,
  description text,
  is_enabled boolean not null default false,
  enabled_for_roles text[] not null default '{}',
  rollout_percentage integer not null default 100,
  updated_at timestamptz not null default now(),
  constraint feature_flags_pkey primary key (flag_key),
  constraint feature_flags_rollout_percentage_check check (rollout_percentage between 0 and 100)
);
create or replace trigger feature_flags_touch_updated_at before update on feature_flags
  for each row execute function hub_touch_updated_at();

comment on table feature_flags is 'Features that can be switched while the hub runs; an update by plain SQL works at once.';
comment on column feature_flags.flag_key is 'Stable name that the code asks for.';
comment on column feature_flags.flag_name is 'Title for people.';
comment on column feature_flags.description is 'What the flag changes.';
comment on column feature_flags.is_enabled is 'Master switch. False: off for everyone.';
comment on column feature_flags.enabled_for_roles is 'Roles that the flag can be on for; empty: no role.';
comment on column feature_flags.rollout_percentage is
  '0 to 100: share of customers who have it, chosen by a stable hash of flag and customer.';
comment on column feature_flags.updated_at is 'When the flag last changed.';

insert into feature_flags (flag_key, flag_name, description, is_enabled, enabled_for_roles, rollout_percentage)
values (
  'ENABLE_FAVORITES_PRIORITY', 'Favorites Priority Broadcast',
  'A customer''s favourite mechanic is asked first, for a limited time, before everyone else.',
  false, '{admin,customer}', 100
) on conflict (flag_key) do nothing;

-- hub_settings ---------------------------------------------------------------------------------------------

create table if not exists hub_settings (
  key text not null,
  value jsonb not null,
  updated_at timestamptz not null default now(),
  constraint hub_settings_pkey primary key (key)
);
create or replace trigger hub_settings_touch_updated_at before update on hub_settings
  for each row execute function hub_touch_updated_at();

comment on table hub_settings is 'What an admin changes without a restart. An absent key means the built-in or environment value.';
comment on column hub_settings.key is 'default_window_seconds, sequence_split or offline_policy.';
comment on column hub_settings.value is 'The value as JSON, checked by the hub when it reads it.';
comment on column hub_settings.updated_at is 'When the setting last changed.';

-- plans ----------------------------------------------------------------------------------------------------

create table if not exists plans (
  plan_code text not null,
  name text not null,
  session_type text not null,
  price_cents integer not null default 0,
  credits integer not null default 0,
  priority_window_minutes integer,
  is_active boolean not null default true,
  updated_at timestamptz not null default now(),
  constraint plans_pkey primary key (plan_code),
  constraint plans_session_type_check check (session_type in ('chat', 'video', 'diagnostic')),
  constraint plans_price_cents_check check (price_cents >= 0),
  constraint plans_credits_check check (credits >= 0),
  constraint plans_priority_window_minutes_check check (priority_window_minutes between 1 and 60)
);
create or replace trigger plans_touch_updated_at before update on plans
  for each row execute function hub_touch_updated_at();

comment on table plans is 'What can be booked and what it costs. Join sessions on plan_code for revenue.';
comment on column plans.plan_code is 'Stable code used in bookings.';
comment on column plans.name is 'Title shown to customers.';
comment on column plans.session_type is 'chat, video or diagnostic: what a booking gets unless it asks for another.';
comment on column plans.price_cents is 'Price in cents; 0 allows payment = free.';
comment on column plans.credits is 'Credits that a booking with payment = credit costs; 0: cannot be paid by credit.';
comment on column plans.priority_window_minutes is 'Priority window of this plan, 1 to 60 minutes. Null: the default.';
comment on column plans.is_active is 'False hides the plan and refuses new bookings; old sessions keep it.';
comment on column plans.updated_at is 'When the plan last changed.';

insert into plans (plan_code, name, session_type, price_cents, credits) values
  ('free', 'Free Diagnostic', 'diagnostic', 0, 0),
  ('chat10', 'Quick Chat', 'chat', 999, 1),
  ('video15', 'Expert Video', 'video', 2999, 3)
on conflict (plan_code) do nothing;

-- credit_ledger --------------------------------------------------------------------------------------------

-- session_id has no foreign key: a debit commits before its session is dispatched, so before the session's row.
create table if not exists credit_ledger (
  id bigint generated by default as identity,
  customer_id uuid not null,
  session_id uuid,
  delta integer not null,
  reason text not null,
  created_at timestamptz not null default now(),
  constraint credit_ledger_pkey primary key (id),
  constraint credit_ledger_customer_id_fkey foreign key (customer_id) references customers (id),
  constraint credit_ledger_session_id_reason_key unique (session_id, reason),
  constraint credit_ledger_reason_check check (reason in ('grant', 'debit', 'refund')),
  constraint credit_ledger_delta_check check (
    delta <> 0 and (reason <> 'debit' or delta < 0) and (reason <> 'refund' or delta > 0)
  )
);
create index if not exists credit_ledger_customer_idx on credit_ledger (customer_id);
create index if not exists credit_ledger_debit_idx on credit_ledger (created_at) where reason = 'debit';

comment on table credit_ledger is 'Every change of a customer''s credits. The balance is sum(delta) by customer_id.';
comment on column credit_ledger.id is 'Row number, in the order of writing.';
comment on column credit_ledger.customer_id is 'Whose credits. Lock this customer''s row before a debit.';
comment on column credit_ledger.session_id is
  'The session debited or refunded, null for grants. One debit and one refund a session. May name a session not written yet.';
comment on column credit_ledger.delta is 'Credits added (positive) or taken (negative), never 0.';
comment on column credit_ledger.reason is 'grant, debit or refund.';
comment on column credit_ledger.created_at is 'When it was written.';

-- stripe_events --------------------------------------------------------------------------------------------

create table if not exists stripe_events (
  event_id text not null,
  type text not null,
  payload jsonb not null,
  received_at timestamptz not null default now(),
  handled_at timestamptz,
  outcome text,
  session_id uuid,
  detail text,
  constraint stripe_events_pkey primary key (event_id),
  constraint stripe_events_outcome_check check (outcome in ('dispatched', 'ignored', 'needs_attention'))
);
create index if not exists stripe_events_unhandled_idx on stripe_events (received_at) where handled_at is null;
create index if not exists stripe_events_outcome_idx on stripe_events (outcome, received_at);

comment on table stripe_events is 'Inbox of Stripe webhooks: stored before anything is answered, handled once.';
comment on column stripe_events.event_id is 'Stripe''s event id; repeats of it change nothing.';
comment on column stripe_events.type is 'Stripe''s event type, such as checkout.session.completed.';
comment on column stripe_events.payload is 'The event as received. Personal data: keep it out of dashboards.';
comment on column stripe_events.received_at is 'When it first came.';
comment on column stripe_events.handled_at is 'When it was dealt with. Null: still to do, or left by a node that died.';
comment on column stripe_events.outcome is
  'dispatched (a session was booked), ignored, or needs_attention (paid but not bookable: a person must look).';
comment on column stripe_events.session_id is 'The session booked for it. May name a session not written yet.';
comment on column stripe_events.detail is 'Why it was ignored or needs attention.';
