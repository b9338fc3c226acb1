-- Reports, and what an overview counts.

-- name: limits
-- $1 ms, as text. Compiling a report would take longer than running it.
select set_config('statement_timeout', $1, true), set_config('jit', 'off', true)

-- name: report
-- {name} of the report; $1 days to look back
select * from analytics_{name}(now() - make_interval(days => $1::integer))

-- name: stripe_inbox
select
  (select count(*) from stripe_events where handled_at is null) as unhandled,
  (select count(*) from stripe_events where outcome = 'needs_attention') as needs_attention
