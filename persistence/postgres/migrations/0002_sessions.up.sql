-- Sessions and their assignments: the record that the journal writer keeps.
-- Redis decides and Postgres records, so a row may be newer or older than its neighbours for a moment; no trigger
-- here changes what the journal wrote, and nothing but customers and mechanics is referenced from outside this file.

-- sessions -------------------------------------------------------------------------------------------------

create table if not exists sessions (
  id uuid not null,
  customer_user_id uuid not null,
  mechanic_id uuid,
  session_type text not null,
  plan_code text not null,
  payment text not null default 'free',
  status text not null default 'pending',
  customer_name text,
  customer_email text,
  notes text,
  is_urgent boolean not null default false,
  request_type text not null default 'general',
  requested_brand text,
  extracted_keywords text[] not null default '{}',
  customer_country text,
  customer_city text,
  is_follow_up boolean not null default false,
  workshop_id uuid,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  ended_at timestamptz,
  version bigint not null default 0,
  command_id uuid,
  constraint sessions_pkey primary key (id),
  constraint sessions_session_type_check check (session_type in ('chat', 'video', 'diagnostic')),
  constraint sessions_payment_check check (payment in ('free', 'credit', 'paid')),
  constraint sessions_status_check check (
    status in ('pending', 'waiting', 'live', 'scheduled', 'completed', 'cancelled', 'expired')
  ),
  constraint sessions_request_type_check check (request_type in ('general', 'brand_specialist'))
);
do $$
begin
  if not exists (
    select from pg_constraint where conrelid = 'sessions'::regclass and conname = 'sessions_customer_user_id_fkey'
  ) then
    alter table sessions add constraint sessions_customer_user_id_fkey
      foreign key (customer_user_id) references customers (id);
  end if;
  if not exists (
    select from pg_constraint where conrelid = 'sessions'::regclass and conname = 'sessions_mechanic_id_fkey'
  ) then
    alter table sessions add constraint sessions_mechanic_id_fkey
      foreign key (mechanic_id) references mechanics (id) on delete set null;
  end if;
end
$$;
create unique index if not exists uq_active_session_per_customer on sessions (customer_user_id)
  where status in ('pending', 'waiting', 'live', 'scheduled');
create index if not exists sessions_customer_idx on sessions (customer_user_id, created_at desc);
create index if not exists sessions_mechanic_idx on sessions (mechanic_id, created_at desc) where mechanic_id is not null;
create index if not exists sessions_created_at_idx on sessions (created_at);
create index if not exists sessions_orphan_idx on sessions (created_at) where status in ('pending', 'waiting');

comment on table sessions is
  'One row a booking. Written behind Redis by the journal, normally within a second; version says how far it is.';
comment on column sessions.id is 'The booking''s id; its last two bytes name the customer''s shard.';
comment on column sessions.customer_user_id is 'Who booked.';
comment on column sessions.mechanic_id is 'Who serves it. Null: nobody accepted yet, or that mechanic was deleted.';
comment on column sessions.session_type is 'chat, video or diagnostic.';
comment on column sessions.plan_code is 'The plan booked; join plans for its price.';
comment on column sessions.payment is 'free, credit or paid (Stripe).';
comment on column sessions.status is
  'pending (looking for a mechanic), waiting (accepted, not started), live, scheduled, completed, cancelled, expired.';
comment on column sessions.customer_name is 'The customer''s name at the time of booking.';
comment on column sessions.customer_email is 'The customer''s email at the time of booking. Personal data.';
comment on column sessions.notes is 'What the customer wrote.';
comment on column sessions.is_urgent is 'The customer said it is urgent.';
comment on column sessions.request_type is 'general or brand_specialist.';
comment on column sessions.requested_brand is 'The brand asked for, with brand_specialist.';
comment on column sessions.extracted_keywords is 'Keywords found in the notes, empty where none were looked for.';
comment on column sessions.customer_country is 'Where the customer is, null where unknown.';
comment on column sessions.customer_city is 'Where the customer is, null where unknown.';
comment on column sessions.is_follow_up is 'True where it continues an earlier session.';
comment on column sessions.workshop_id is 'The workshop booked, whose own mechanics serve it. Null for most.';
comment on column sessions.metadata is 'What the booking app attached; never read by the hub.';
comment on column sessions.created_at is 'When it was booked.';
comment on column sessions.updated_at is 'When it last changed, by the clock of Redis.';
comment on column sessions.started_at is 'When the mechanic started it.';
comment on column sessions.ended_at is 'When it completed, was cancelled or expired.';
comment on column sessions.version is 'Number of the last decision on this session; a row only ever moves to a higher one.';
comment on column sessions.command_id is 'The command that made this version; two commands with one version are a fork.';

-- session_participants -------------------------------------------------------------------------------------

create table if not exists session_participants (
  session_id uuid not null,
  user_id uuid not null,
  role text not null,
  joined_at timestamptz not null default now(),
  left_at timestamptz,
  constraint session_participants_pkey primary key (session_id, user_id),
  constraint session_participants_session_id_fkey
    foreign key (session_id) references sessions (id) on delete cascade,
  constraint session_participants_role_check check (role in ('customer', 'mechanic'))
);
create index if not exists session_participants_user_idx on session_participants (user_id);

comment on table session_participants is 'Who takes or took part in a session, mechanics who gave it back included.';
comment on column session_participants.session_id is 'The session.';
comment on column session_participants.user_id is 'Customer or mechanic id, by role. Kept when that person is deleted.';
comment on column session_participants.role is 'customer or mechanic.';
comment on column session_participants.joined_at is 'When the customer booked or the mechanic accepted.';
comment on column session_participants.left_at is 'When they left: the end of the session, or the release. Null: still in.';

-- session_assignments --------------------------------------------------------------------------------------

create table if not exists session_assignments (
  id uuid not null,
  session_id uuid not null,
  mechanic_id uuid,
  status text not null default 'queued',
  routing_type text not null default 'broadcast',
  wave integer not null default 0,
  preferred_mechanic_id uuid,
  priority_window_minutes integer not null default 10,
  priority_notified_at timestamptz,
  expires_at timestamptz,
  fallback_reason text,
  fallback_at timestamptz,
  accepted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  version bigint not null default 0,
  constraint session_assignments_pkey primary key (id),
  constraint session_assignments_session_id_key unique (session_id),
  constraint session_assignments_session_id_fkey
    foreign key (session_id) references sessions (id) on delete cascade,
  constraint session_assignments_status_check check (
    status in ('queued', 'offered', 'open', 'accepted', 'cancelled', 'expired')
  ),
  constraint session_assignments_routing_type_check check (
    routing_type in ('broadcast', 'priority_broadcast', 'favorites_sequence')
  ),
  constraint session_assignments_priority_window_minutes_check check (priority_window_minutes > 0)
);
do $$
begin
  if not exists (
    select from pg_constraint
    where conrelid = 'session_assignments'::regclass and conname = 'session_assignments_mechanic_id_fkey'
  ) then
    alter table session_assignments add constraint session_assignments_mechanic_id_fkey
      foreign key (mechanic_id) references mechanics (id) on delete set null;
  end if;
  if not exists (
    select from pg_constraint
    where conrelid = 'session_assignments'::regclass and conname = 'session_assignments_preferred_mechanic_id_fkey'
  ) then
    alter table session_assignments add constraint session_assignments_preferred_mechanic_id_fkey
      foreign key (preferred_mechanic_id) references mechanics (id) on delete set null;
  end if;
end
$$;
create index if not exists session_assignments_preferred_mechanic_idx
  on session_assignments (preferred_mechanic_id) where preferred_mechanic_id is not null;
create index if not exists session_assignments_priority_analytics_idx
  on session_assignments (preferred_mechanic_id, priority_notified_at, status) where preferred_mechanic_id is not null;
create index if not exists session_assignments_priority_timeout_idx
  on session_assignments (priority_notified_at, status)
  where priority_notified_at is not null and status in ('queued', 'offered', 'open');
create index if not exists session_assignments_mechanic_idx
  on session_assignments (mechanic_id) where mechanic_id is not null;
create index if not exists session_assignments_created_at_idx on session_assignments (created_at);

comment on table session_assignments is
  'How a booking finds its mechanic, one row a session. Priority requests are those with preferred_mechanic_id.';
comment on column session_assignments.id is 'The assignment''s id: the session''s with one fixed bit flipped.';
comment on column session_assignments.session_id is 'The session it belongs to, exactly one.';
comment on column session_assignments.mechanic_id is 'Who accepted. Null: nobody, or that mechanic was deleted.';
comment on column session_assignments.status is
  'queued (not offered yet), offered (to the favourite alone), open (to everyone), accepted, cancelled, expired.';
comment on column session_assignments.routing_type is 'broadcast, priority_broadcast or favorites_sequence: how it was booked.';
comment on column session_assignments.wave is 'Which wave of the offer plan it has reached, from 0.';
comment on column session_assignments.preferred_mechanic_id is
  'The favourite who is or was asked first. Null: none, or that mechanic was deleted.';
comment on column session_assignments.priority_window_minutes is
  'How long the favourite had it alone, in minutes rounded up; the exact end is expires_at.';
comment on column session_assignments.priority_notified_at is
  'When the request was written to the favourite''s socket. Null: it never was.';
comment on column session_assignments.expires_at is 'When the current offer ends.';
comment on column session_assignments.fallback_reason is
  'Why it went to everyone: priority_timeout, priority_declined, mechanic_offline, notify_failed, released, admin. Null: it did not.';
comment on column session_assignments.fallback_at is 'When it went to everyone.';
comment on column session_assignments.accepted_at is 'When it was accepted.';
comment on column session_assignments.created_at is 'When it was booked.';
comment on column session_assignments.updated_at is 'When it last changed, by the clock of Redis.';
comment on column session_assignments.version is 'The session''s version that this row shows.';

-- session_events -------------------------------------------------------------------------------------------

-- No foreign keys: history outlives deleted people, and an event must be recordable where its session's row was refused.
create table if not exists session_events (
  event_id uuid not null,
  session_id uuid not null,
  assignment_id uuid,
  type text not null,
  actor_id uuid,
  at timestamptz not null default now(),
  version bigint not null default 0,
  data jsonb not null default '{}',
  constraint session_events_pkey primary key (event_id),
  constraint session_events_type_check check (
    type in (
      'created', 'offered', 'notified', 'delivered', 'seen', 'declined', 'offer_expired', 'broadcast', 'accepted',
      'released', 'started', 'completed', 'cancelled', 'expired'
    )
  )
);
create index if not exists session_events_session_idx on session_events (session_id, version, at);
create index if not exists session_events_type_idx on session_events (type, at);

create or replace function hub_refuse_update() returns trigger
language plpgsql as $$
begin
  raise exception '% is append only', tg_table_name using errcode = 'restrict_violation';
end
$$;
comment on function hub_refuse_update() is 'Trigger function: history is added to, never rewritten.';
create or replace trigger session_events_append_only before update on session_events
  for each row execute function hub_refuse_update();

comment on table session_events is 'Everything that happened to a session, in order of version and at. Append only.';
comment on column session_events.event_id is 'The same on every repeat of the event, on sockets too.';
comment on column session_events.session_id is 'The session it happened to.';
comment on column session_events.assignment_id is 'Its assignment.';
comment on column session_events.type is
  'created, offered, notified, delivered, seen, declined, offer_expired, broadcast, accepted, released, started, completed, cancelled or expired.';
comment on column session_events.actor_id is 'Who did it. Null: the hub itself. Kept when that person is deleted.';
comment on column session_events.at is 'When, by the clock of Redis.';
comment on column session_events.version is 'The session''s version after it; events that change nothing repeat the last one.';
comment on column session_events.data is 'Details by type, such as the reason or the mechanic asked.';

-- journal_cursor -------------------------------------------------------------------------------------------

create table if not exists journal_cursor (
  shard integer not null,
  epoch text not null,
  last_id text not null default '0-0',
  updated_at timestamptz not null default now(),
  constraint journal_cursor_pkey primary key (shard)
);
comment on table journal_cursor is 'How far each shard''s journal has been written here; moves in the transaction of its rows.';
comment on column journal_cursor.shard is 'Shard number, from 0.';
comment on column journal_cursor.epoch is 'The life of the shard''s Redis data that last_id belongs to.';
comment on column journal_cursor.last_id is 'Stream id of the last entry written.';
comment on column journal_cursor.updated_at is 'When it last moved; old only where nothing happens.';
