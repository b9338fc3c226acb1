-- The older table. Where an earlier deployment left one it is kept and completed; elsewhere it is made empty, so that
-- reports, import and archive meet the same shape everywhere.

do $$
begin
  if not exists (
    select from pg_type where typname = 'session_type' and typnamespace = current_schema()::regnamespace
  ) then
    create type session_type as enum ('chat', 'video', 'diagnostic');
  end if;
  if not exists (
    select from pg_type where typname = 'session_request_status' and typnamespace = current_schema()::regnamespace
  ) then
    create type session_request_status as enum ('pending', 'accepted', 'cancelled');
  end if;
end
$$;
comment on type session_type is 'Kinds of session in session_requests; newer tables use text with the same values.';
comment on type session_request_status is 'States of a row of session_requests.';

create table if not exists session_requests (
  id uuid not null default gen_random_uuid(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  customer_id uuid not null,
  mechanic_id uuid,
  session_type session_type not null,
  plan_code text not null,
  status session_request_status not null default 'pending',
  customer_name text,
  customer_email text,
  notes text,
  accepted_at timestamptz,
  notification_sent_at timestamptz,
  metadata jsonb not null default '{}',
  is_urgent boolean,
  request_type text,
  requested_brand text,
  extracted_keywords text[],
  customer_country text,
  customer_city text,
  expires_at timestamptz,
  is_follow_up boolean,
  preferred_workshop_id uuid,
  routing_type text,
  constraint session_requests_pkey primary key (id)
);
alter table session_requests add column if not exists preferred_mechanic_id uuid;
alter table session_requests add column if not exists priority_window_minutes integer not null default 10;
alter table session_requests add column if not exists priority_notified_at timestamptz;
do $$
begin
  if not exists (
    select from pg_constraint
    where conrelid = 'session_requests'::regclass and conname = 'session_requests_preferred_mechanic_id_fkey'
  ) then
    alter table session_requests add constraint session_requests_preferred_mechanic_id_fkey
      foreign key (preferred_mechanic_id) references mechanics (id) on delete set null;
  end if;
end
$$;
create index if not exists session_requests_preferred_mechanic_idx
  on session_requests (preferred_mechanic_id) where preferred_mechanic_id is not null;
create index if not exists session_requests_priority_analytics_idx
  on session_requests (preferred_mechanic_id, priority_notified_at, status) where preferred_mechanic_id is not null;
create index if not exists session_requests_priority_timeout_idx
  on session_requests (priority_notified_at, status)
  where priority_notified_at is not null and status = 'pending';

comment on table session_requests is
  'Bookings from before sessions and session_assignments. History only; imported rows carry metadata.imported.';
comment on column session_requests.id is 'The request''s id; an import keeps it as the session''s id.';
comment on column session_requests.created_at is 'When it was booked.';
comment on column session_requests.updated_at is 'When it last changed.';
comment on column session_requests.customer_id is 'Who booked.';
comment on column session_requests.mechanic_id is 'Who accepted, null where nobody did.';
comment on column session_requests.session_type is 'chat, video or diagnostic.';
comment on column session_requests.plan_code is 'The plan booked; join plans for its price.';
comment on column session_requests.status is 'pending, accepted or cancelled. An old pending row was never answered.';
comment on column session_requests.customer_name is 'The customer''s name at the time of booking.';
comment on column session_requests.customer_email is 'The customer''s email at the time of booking. Personal data.';
comment on column session_requests.notes is 'What the customer wrote.';
comment on column session_requests.accepted_at is 'When it was accepted.';
comment on column session_requests.notification_sent_at is 'When mechanics were notified.';
comment on column session_requests.metadata is 'What the booking app attached; key imported: the row is in sessions too, do not count it twice.';
comment on column session_requests.is_urgent is 'The customer said it is urgent.';
comment on column session_requests.request_type is 'general or brand_specialist.';
comment on column session_requests.requested_brand is 'The brand asked for, with brand_specialist.';
comment on column session_requests.extracted_keywords is 'Keywords found in the notes.';
comment on column session_requests.customer_country is 'Where the customer is, null where unknown.';
comment on column session_requests.customer_city is 'Where the customer is, null where unknown.';
comment on column session_requests.expires_at is 'When the request ended unless accepted.';
comment on column session_requests.is_follow_up is 'True where it continues an earlier session.';
comment on column session_requests.preferred_workshop_id is 'The workshop booked, null for most.';
comment on column session_requests.routing_type is 'How it was routed; null means broadcast.';
comment on column session_requests.preferred_mechanic_id is
  'The favourite who was asked first. Null: none, or that mechanic was deleted.';
comment on column session_requests.priority_window_minutes is 'How long the favourite had it alone, in minutes.';
comment on column session_requests.priority_notified_at is 'When the favourite was notified. Null: never.';
