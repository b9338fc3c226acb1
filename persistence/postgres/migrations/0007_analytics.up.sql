-- Reports. Views bring sessions and the older table to one shape; twelve functions, each taking a period, read them.
-- Functions have parsed bodies (begin atomic) and no settings of their own, so that they are inlined: a report is one
-- plan over the created_at indexes. Seconds and rates are double precision, rates between 0 and 1, days and hours UTC.

create index if not exists session_assignments_priority_created_at_idx
  on session_assignments (created_at) where preferred_mechanic_id is not null;

-- Views read with their owner's rights. Whom the policies bind sees nothing here, except with an admin's claims.

-- The older table under its own name, or beside a view of that name once it is archived.
do $$
declare
  older regclass := coalesce(to_regclass('session_requests_archived'), to_regclass('session_requests'));
begin
  execute format('create index if not exists session_requests_created_at_idx on %s (created_at)', older);
  execute format($view$
    create or replace view older_requests as
    select
      older.id, older.customer_id, older.mechanic_id, older.preferred_mechanic_id, older.session_type, older.plan_code,
      older.routing_type, older.status, older.priority_window_minutes,
      case when isfinite(older.priority_notified_at) then older.priority_notified_at end as priority_notified_at,
      case when isfinite(older.accepted_at) then older.accepted_at end as accepted_at,
      older.created_at,
      case when isfinite(older.updated_at) then older.updated_at end as updated_at
    from %s as older
    where older.metadata #> '{imported,hub}' is null
      and (not row_security_active('sessions'::regclass::oid) or hub_claim_role() = 'admin')
  $view$, older);
end
$$;
comment on view older_requests is 'Rows of the older table that are not in sessions yet, so that nothing counts twice.';
comment on column older_requests.id is 'The request''s id.';
comment on column older_requests.customer_id is 'Who booked.';
comment on column older_requests.mechanic_id is 'Who accepted.';
comment on column older_requests.preferred_mechanic_id is 'The favourite who was asked first, null for plain broadcasts.';
comment on column older_requests.session_type is 'chat, video or diagnostic.';
comment on column older_requests.plan_code is 'The plan booked.';
comment on column older_requests.routing_type is 'How it was routed; null, and what is no routing of the hub''s, means broadcast.';
comment on column older_requests.status is 'pending, accepted or cancelled.';
comment on column older_requests.priority_window_minutes is 'How long the favourite had it alone.';
comment on column older_requests.priority_notified_at is 'When the favourite was notified; null: never, or infinite.';
comment on column older_requests.accepted_at is 'When it was accepted; null: never, or infinite.';
comment on column older_requests.created_at is 'When it was booked.';
comment on column older_requests.updated_at is 'When it last changed, null where that is infinite; of a cancelled one, when it was cancelled.';

create or replace view booking_requests as
select
  both_ages.id,
  both_ages.source,
  both_ages.customer_id,
  both_ages.mechanic_id,
  both_ages.preferred_mechanic_id,
  both_ages.session_type,
  both_ages.plan_code,
  both_ages.payment,
  both_ages.routing_type,
  both_ages.status,
  both_ages.session_status,
  both_ages.priority_window_minutes,
  both_ages.priority_notified_at,
  case
    when both_ages.fallback_reason is not null then both_ages.fallback_reason
    when coalesce(both_ages.accepted_at, both_ages.ended_at, now())
      > both_ages.priority_notified_at + make_interval(mins => both_ages.priority_window_minutes)
    then 'priority_timeout'
  end as fallback_reason,
  both_ages.accepted_at,
  both_ages.ended_at,
  both_ages.created_at,
  both_ages.assigned_at
from (
  select
    s.id,
    'session'::text as source,
    s.customer_user_id as customer_id,
    a.mechanic_id,
    a.preferred_mechanic_id,
    s.session_type,
    s.plan_code,
    s.payment,
    a.routing_type,
    case when a.status in ('queued', 'offered', 'open') then 'pending' else a.status end as status,
    s.status as session_status,
    a.priority_window_minutes,
    a.priority_notified_at,
    a.fallback_reason,
    a.accepted_at,
    s.ended_at,
    s.created_at,
    a.created_at as assigned_at
  from sessions as s join session_assignments as a on a.session_id = s.id
  where not row_security_active('sessions'::regclass::oid) or hub_claim_role() = 'admin'
  union all
  select
    older.id,
    'older'::text,
    older.customer_id,
    older.mechanic_id,
    older.preferred_mechanic_id,
    older.session_type::text,
    older.plan_code,
    case when p.price_cents > 0 then 'paid' else 'free' end,
    case when older.routing_type in ('priority_broadcast', 'favorites_sequence') then older.routing_type
      else 'broadcast' end,
    older.status::text,
    case older.status when 'accepted' then 'completed' else older.status::text end,
    older.priority_window_minutes,
    older.priority_notified_at,
    null::text,
    older.accepted_at,
    case older.status when 'cancelled' then older.updated_at end,
    older.created_at,
    older.created_at
  from older_requests as older left join plans as p on p.plan_code = older.plan_code
) as both_ages;

comment on view booking_requests is
  'Every booking once: sessions with their assignments, and rows of session_requests that were not imported.';
comment on column booking_requests.id is 'The session''s id, or the older request''s.';
comment on column booking_requests.source is 'session or older: which tables the row comes from.';
comment on column booking_requests.customer_id is 'Who booked.';
comment on column booking_requests.mechanic_id is 'Who accepted.';
comment on column booking_requests.preferred_mechanic_id is 'The favourite who was asked first, null for plain broadcasts.';
comment on column booking_requests.session_type is 'chat, video or diagnostic.';
comment on column booking_requests.plan_code is 'The plan booked.';
comment on column booking_requests.payment is 'free, credit or paid; older rows count as paid where their plan has a price.';
comment on column booking_requests.routing_type is 'broadcast, priority_broadcast or favorites_sequence.';
comment on column booking_requests.status is 'pending (queued, offered or open), accepted, cancelled or expired.';
comment on column booking_requests.session_status is 'Status of the session; an accepted older row counts as completed.';
comment on column booking_requests.priority_window_minutes is 'How long the favourite had it alone, rounded up.';
comment on column booking_requests.priority_notified_at is 'When the favourite was notified.';
comment on column booking_requests.fallback_reason is
  'Why it went to everyone; priority_timeout also where nothing is recorded but the window passed without an answer.';
comment on column booking_requests.accepted_at is 'When it was accepted.';
comment on column booking_requests.ended_at is 'When it completed, was cancelled or expired.';
comment on column booking_requests.created_at is 'When it was booked.';
comment on column booking_requests.assigned_at is
  'When dispatch began, never before created_at. Filter on both from the start of a period: each has its index.';

create or replace view priority_requests as
select * from booking_requests where preferred_mechanic_id is not null;

comment on view priority_requests is
  'Those of booking_requests that asked a favourite first, in the same shape. Those of deleted favourites drop out.';
comment on column priority_requests.id is 'The session''s id, or the older request''s.';
comment on column priority_requests.source is 'session or older: which tables the row comes from.';
comment on column priority_requests.customer_id is 'Who booked.';
comment on column priority_requests.mechanic_id is 'Who accepted: the favourite or another.';
comment on column priority_requests.preferred_mechanic_id is 'The favourite who was asked first.';
comment on column priority_requests.session_type is 'chat, video or diagnostic.';
comment on column priority_requests.plan_code is 'The plan booked.';
comment on column priority_requests.payment is 'free, credit or paid; older rows count as paid where their plan has a price.';
comment on column priority_requests.routing_type is 'priority_broadcast or favorites_sequence; broadcast where it was changed.';
comment on column priority_requests.status is 'pending (queued, offered or open), accepted, cancelled or expired.';
comment on column priority_requests.session_status is 'Status of the session; an accepted older row counts as completed.';
comment on column priority_requests.priority_window_minutes is 'How long the favourite had it alone, rounded up.';
comment on column priority_requests.priority_notified_at is 'When the favourite was notified, null: never.';
comment on column priority_requests.fallback_reason is
  'Why it went to everyone; priority_timeout also where nothing is recorded but the window passed without an answer.';
comment on column priority_requests.accepted_at is 'When it was accepted.';
comment on column priority_requests.ended_at is 'When it completed, was cancelled or expired.';
comment on column priority_requests.created_at is 'When it was booked.';
comment on column priority_requests.assigned_at is 'When dispatch began, never before created_at.';

create or replace function booking_requests_between(since timestamptz, until timestamptz default now())
returns setof booking_requests
language sql stable
begin atomic
  -- assigned_at follows created_at, so its bound loses nothing; it gives the assignments' index something to do.
  select * from booking_requests r
  where r.created_at >= since and r.created_at < until and r.assigned_at >= since;
end;
comment on function booking_requests_between(timestamptz, timestamptz) is 'Bookings made from since to before until.';

create or replace function priority_requests_between(since timestamptz, until timestamptz default now())
returns setof priority_requests
language sql stable
begin atomic
  select * from priority_requests r
  where r.created_at >= since and r.created_at < until and r.assigned_at >= since;
end;
comment on function priority_requests_between(timestamptz, timestamptz) is
  'Priority requests made from since to before until.';

create or replace function analytics_priority_requests_by_favorite(since timestamptz, until timestamptz default now())
returns table (
  mechanic_id uuid, mechanic_name text, requests bigint, accepted bigint, accepted_by_favorite bigint, pending bigint
)
language sql stable
begin atomic
  select
    r.preferred_mechanic_id,
    trim(m.first_name || ' ' || m.last_name),
    count(*),
    count(*) filter (where r.status = 'accepted'),
    count(*) filter (where r.status = 'accepted' and r.mechanic_id = r.preferred_mechanic_id),
    count(*) filter (where r.status = 'pending')
  from priority_requests_between(since, until) as r
  join mechanics as m on m.id = r.preferred_mechanic_id
  group by r.preferred_mechanic_id, m.first_name, m.last_name
  order by count(*) desc, r.preferred_mechanic_id;
end;
comment on function analytics_priority_requests_by_favorite(timestamptz, timestamptz) is
  'Priority requests per favourite: all, accepted by anyone, accepted by the favourite, still pending.';

create or replace function analytics_priority_success_by_mechanic(since timestamptz, until timestamptz default now())
returns table (
  mechanic_id uuid, mechanic_name text, requests bigint, accepted_by_favorite bigint, success_rate double precision
)
language sql stable
begin atomic
  select
    r.preferred_mechanic_id,
    trim(m.first_name || ' ' || m.last_name),
    count(*),
    count(*) filter (where r.status = 'accepted' and r.mechanic_id = r.preferred_mechanic_id),
    count(*) filter (where r.status = 'accepted' and r.mechanic_id = r.preferred_mechanic_id)::double precision / count(*)
  from priority_requests_between(since, until) as r
  join mechanics as m on m.id = r.preferred_mechanic_id
  group by r.preferred_mechanic_id, m.first_name, m.last_name
  having count(*) >= 5
  order by 5 desc, 3 desc, 1;
end;
comment on function analytics_priority_success_by_mechanic(timestamptz, timestamptz) is
  'Share of priority requests that the asked favourite accepted, for favourites with at least 5 requests.';

create or replace function analytics_priority_response_time(since timestamptz, until timestamptz default now())
returns table (
  mechanic_id uuid, mechanic_name text, responses bigint, average_seconds double precision,
  min_seconds double precision, max_seconds double precision, median_seconds double precision
)
language sql stable
begin atomic
  select
    response.preferred_mechanic_id,
    case when grouping(response.preferred_mechanic_id) = 1 then 'all' else min(trim(m.first_name || ' ' || m.last_name)) end,
    count(*),
    avg(response.seconds),
    min(response.seconds),
    max(response.seconds),
    percentile_cont(0.5) within group (order by response.seconds)
  from (
    select
      r.preferred_mechanic_id,
      extract(epoch from r.accepted_at - r.priority_notified_at)::double precision as seconds
    from priority_requests_between(since, until) as r
    where r.status = 'accepted' and r.mechanic_id = r.preferred_mechanic_id
      and r.accepted_at >= r.priority_notified_at
  ) as response
  join mechanics as m on m.id = response.preferred_mechanic_id
  group by grouping sets ((response.preferred_mechanic_id), ())
  order by grouping(response.preferred_mechanic_id) desc, count(*) desc, response.preferred_mechanic_id;
end;
comment on function analytics_priority_response_time(timestamptz, timestamptz) is
  'Seconds from the notification to the favourite''s acceptance. First row: all together (mechanic_id null), then by mechanic.';

create or replace function analytics_priority_timeout_rate(since timestamptz, until timestamptz default now())
returns table (requests bigint, notified bigint, timed_out bigint, timeout_rate double precision)
language sql stable
begin atomic
  select
    count(*),
    count(r.priority_notified_at),
    count(*) filter (where r.fallback_reason = 'priority_timeout'),
    count(*) filter (where r.fallback_reason = 'priority_timeout')::double precision / nullif(count(*), 0)
  from priority_requests_between(since, until) as r;
end;
comment on function analytics_priority_timeout_rate(timestamptz, timestamptz) is
  'Share of priority requests whose window passed without an answer. One row; the rate is null without requests.';

create or replace function analytics_fallback_effectiveness(since timestamptz, until timestamptz default now())
returns table (
  fallback_reason text, fallbacks bigint, accepted_after bigint, acceptance_rate double precision,
  median_seconds_to_acceptance double precision
)
language sql stable
begin atomic
  select
    case when grouping(r.fallback_reason) = 1 then 'all' else r.fallback_reason end,
    count(*),
    count(*) filter (where r.status = 'accepted'),
    count(*) filter (where r.status = 'accepted')::double precision / nullif(count(*), 0),
    percentile_cont(0.5) within group (
      order by greatest(extract(epoch from r.accepted_at - r.created_at)::double precision, 0)
    ) filter (where r.status = 'accepted' and r.accepted_at is not null)
  from priority_requests_between(since, until) as r
  where r.fallback_reason is not null
  group by grouping sets ((r.fallback_reason), ())
  order by grouping(r.fallback_reason) desc, count(*) desc, r.fallback_reason;
end;
comment on function analytics_fallback_effectiveness(timestamptz, timestamptz) is
  'Priority requests that went to everyone after all, and how many were then accepted. First row: all reasons together.';

create or replace function analytics_favorite_share(since timestamptz, until timestamptz default now())
returns table (bookings bigint, favorite_bookings bigint, favorite_share double precision)
language sql stable
begin atomic
  select
    count(*),
    count(r.preferred_mechanic_id),
    count(r.preferred_mechanic_id)::double precision / nullif(count(*), 0)
  from booking_requests_between(since, until) as r;
end;
comment on function analytics_favorite_share(timestamptz, timestamptz) is
  'Share of all bookings that asked a favourite first. One row; the share is null without bookings.';

create or replace function analytics_notification_delay(since timestamptz, until timestamptz default now())
returns table (
  notified bigint, never_notified bigint, average_seconds double precision, median_seconds double precision,
  p95_seconds double precision, max_seconds double precision
)
language sql stable
begin atomic
  select
    count(delay.seconds),
    count(*) - count(delay.seconds),
    avg(delay.seconds),
    percentile_cont(0.5) within group (order by delay.seconds),
    percentile_cont(0.95) within group (order by delay.seconds),
    max(delay.seconds)
  from (
    select extract(epoch from r.priority_notified_at - r.created_at)::double precision as seconds
    from priority_requests_between(since, until) as r
  ) as delay;
end;
comment on function analytics_notification_delay(timestamptz, timestamptz) is
  'Seconds from the booking to the favourite''s notification, over priority requests. One row.';

create or replace function analytics_revenue_by_routing(since timestamptz, until timestamptz default now())
returns table (
  routing_type text, bookings bigint, served bigint, paid bigint, revenue_cents bigint, credits_spent bigint
)
language sql stable
begin atomic
  select
    sale.routing_type,
    count(*),
    count(*) filter (where sale.served),
    count(*) filter (where sale.served and sale.payment = 'paid'),
    coalesce(sum(sale.price_cents) filter (where sale.served and sale.payment = 'paid'), 0),
    coalesce(sum(sale.credits) filter (where sale.served and sale.payment = 'credit'), 0)
  from (
    select
      r.routing_type, r.payment, p.price_cents, p.credits,
      r.status = 'accepted' and r.session_status not in ('cancelled', 'expired') as served
    from booking_requests_between(since, until) as r left join plans as p on p.plan_code = r.plan_code
  ) as sale
  group by sale.routing_type
  order by 5 desc, 1;
end;
comment on function analytics_revenue_by_routing(timestamptz, timestamptz) is
  'Bookings, those a mechanic serves or served, and their revenue at today''s plan prices, by routing type.';

create or replace function analytics_repeat_customers(since timestamptz, until timestamptz default now())
returns table (
  mechanic_id uuid, mechanic_name text, customers bigint, repeat_customers bigint, repeat_sessions bigint,
  repeat_value_cents bigint
)
language sql stable
begin atomic
  select
    pair.mechanic_id,
    trim(m.first_name || ' ' || m.last_name),
    count(*),
    count(*) filter (where pair.sessions > 1),
    coalesce(sum(pair.sessions) filter (where pair.sessions > 1), 0)::bigint,
    coalesce(sum(pair.value_cents) filter (where pair.sessions > 1), 0)::bigint
  from (
    select
      r.mechanic_id, r.customer_id, count(*) as sessions,
      coalesce(sum(p.price_cents) filter (where r.payment = 'paid'), 0) as value_cents
    from booking_requests_between(since, until) as r left join plans as p on p.plan_code = r.plan_code
    where r.status = 'accepted' and r.session_status not in ('cancelled', 'expired')
    group by r.mechanic_id, r.customer_id
  ) as pair
  join mechanics as m on m.id = pair.mechanic_id
  group by pair.mechanic_id, m.first_name, m.last_name
  order by 6 desc, 4 desc, 1;
end;
comment on function analytics_repeat_customers(timestamptz, timestamptz) is
  'Per mechanic: customers served, those served more than once, their sessions and what these were worth.';

create or replace function analytics_sessions_by_type(since timestamptz, until timestamptz default now())
returns table (
  day date, session_type text, sessions bigint, completed bigint, cancelled bigint, expired bigint
)
language sql stable
begin atomic
  select
    (r.created_at at time zone 'UTC')::date,
    r.session_type,
    count(*),
    count(*) filter (where r.session_status = 'completed'),
    count(*) filter (where r.session_status = 'cancelled'),
    count(*) filter (where r.session_status = 'expired')
  from booking_requests_between(since, until) as r
  group by 1, 2
  order by 1, 2;
end;
comment on function analytics_sessions_by_type(timestamptz, timestamptz) is 'Sessions booked by UTC day and session type.';

create or replace function analytics_acceptance_time(since timestamptz, until timestamptz default now())
returns table (
  routing_type text, accepted bigint, average_seconds double precision, median_seconds double precision,
  p95_seconds double precision, max_seconds double precision
)
language sql stable
begin atomic
  select
    taken.routing_type,
    count(*),
    avg(taken.seconds),
    percentile_cont(0.5) within group (order by taken.seconds),
    percentile_cont(0.95) within group (order by taken.seconds),
    max(taken.seconds)
  from (
    select r.routing_type, greatest(extract(epoch from r.accepted_at - r.created_at)::double precision, 0) as seconds
    from booking_requests_between(since, until) as r
    where r.status = 'accepted' and r.accepted_at is not null
  ) as taken
  group by taken.routing_type
  order by taken.routing_type;
end;
comment on function analytics_acceptance_time(timestamptz, timestamptz) is
  'Seconds from the booking to its acceptance, by routing type.';

create or replace function analytics_queue_bottlenecks(since timestamptz, until timestamptz default now())
returns table (
  hour integer, requests bigint, unanswered bigint, average_wait_seconds double precision,
  p95_wait_seconds double precision, under_1_minute bigint, under_5_minutes bigint, under_15_minutes bigint,
  over_15_minutes bigint
)
language sql stable
begin atomic
  select
    queued.hour,
    count(*),
    count(*) filter (where queued.accepted_at is null),
    avg(queued.wait),
    percentile_cont(0.95) within group (order by queued.wait),
    count(*) filter (where queued.wait < 60),
    count(*) filter (where queued.wait >= 60 and queued.wait < 300),
    count(*) filter (where queued.wait >= 300 and queued.wait < 900),
    count(*) filter (where queued.wait >= 900)
  from (
    select
      extract(hour from r.created_at at time zone 'UTC')::integer as hour,
      r.accepted_at,
      greatest(extract(epoch from coalesce(r.accepted_at, r.ended_at, now()) - r.created_at)::double precision, 0) as wait
    from booking_requests_between(since, until) as r
  ) as queued
  group by queued.hour
  order by queued.hour;
end;
comment on function analytics_queue_bottlenecks(timestamptz, timestamptz) is
  'How long bookings waited for a mechanic by UTC hour of booking; a wait ends with acceptance, the end, or now.';
