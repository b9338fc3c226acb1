-- Credits. Whoever takes some locks the customer's row first: what they see of the balance then holds until they commit.

-- name: know
-- $1 customer, $2 name, $3 email
insert into customers (id, full_name, email) values ($1::uuid, $2, $3) on conflict (id) do nothing

-- name: lock
-- $1 customer. Not `for update`, which writers of rows that name this customer would have to wait for.
select from customers where id = $1::uuid for no key update

-- name: standing
-- $1 customer, $2 session: the balance, and what the ledger and the record know of the session
select
  coalesce(sum(delta), 0)::bigint as balance,
  coalesce(bool_or(session_id = $2::uuid and reason = 'debit'), false) as debited,
  coalesce(bool_or(session_id = $2::uuid and reason = 'refund'), false) as refunded,
  exists (select from sessions where id = $2::uuid) as recorded
from credit_ledger where customer_id = $1::uuid

-- name: balance
-- $1 customer
select coalesce(sum(delta), 0)::bigint from credit_ledger where customer_id = $1::uuid

-- name: forget
-- $1 a session that never came to be: its debit and refund stay as history, its id may be booked again
update credit_ledger set session_id = null where session_id = $1::uuid

-- name: enter
-- $1 customer, $2 session or null, $3 credits (negative: taken), $4 reason
insert into credit_ledger (customer_id, session_id, delta, reason)
values ($1::uuid, $2::uuid, $3::integer, $4) returning id

-- name: refund
-- $1 debit. The lock keeps the id from being freed and debited anew between the look and the insert.
insert into credit_ledger (customer_id, session_id, delta, reason)
select customer_id, session_id, -delta, 'refund' from credit_ledger
where id = $1::bigint and reason = 'debit' and session_id is not null
for update
on conflict (session_id, reason) do nothing
returning id

-- name: abandoned
-- $1 older than seconds, $2 younger than seconds (null: of any age), $3 limit, $4 after this id. A debit is kept by a
-- session that was paid with it and is on, or has begun before it ended; or by history alone, for rows of ended sessions
-- may be deleted.
select d.id, d.session_id::text
from credit_ledger d left join sessions s on s.id = d.session_id
where d.reason = 'debit' and d.session_id is not null and d.id > $4::bigint
  and d.created_at < now() - $1::float8 * interval '1 second'
  and ($2::float8 is null or d.created_at > now() - $2::float8 * interval '1 second')
  and not exists (select from credit_ledger r where r.session_id = d.session_id and r.reason = 'refund')
  and case
    when s.id is null then not exists (select from session_events e where e.session_id = d.session_id)
    else s.payment <> 'credit' or (s.status in ('cancelled', 'expired') and s.started_at is null)
  end
order by d.id limit $3::integer
