-- A customer's favourites. Whoever changes them holds the customer's row, so that ranks stay 1 to n whatever several
-- nodes do at once; foreign keys and the journal go on meanwhile. What plain SQL wrote may have any ranks.

-- name: limits
-- No parameters: SET takes none. A node that stalls in the middle must not keep the customer's row.
set local idle_in_transaction_session_timeout = '5s'

-- name: make_customer
-- $1 id, $2 name, $3 email
insert into customers (id, full_name, email) values ($1, $2, $3) on conflict (id) do nothing

-- name: hold_customer
-- $1 id
select from customers where id = $1 for no key update

-- name: hold_mechanic
-- $1 id; deleting them waits
select from mechanics where id = $1 for key share

-- name: order
-- $1 customer
select mechanic_id::text from customer_favorites where customer_id = $1 order by rank, created_at, mechanic_id

-- name: add
-- $1 customer, $2 mechanic; `renumber` gives the rank
insert into customer_favorites (customer_id, mechanic_id) values ($1, $2) on conflict do nothing

-- name: remove
-- $1 customer, $2 mechanic
delete from customer_favorites where customer_id = $1 and mechanic_id = $2

-- name: renumber
-- $1 customer, $2 mechanics, first choice first
update customer_favorites f set rank = r.rank
from unnest($2::uuid[]) with ordinality as r (mechanic_id, rank)
where f.customer_id = $1 and f.mechanic_id = r.mechanic_id and f.rank <> r.rank

-- name: listed
-- $1 customer
select f.mechanic_id::text, f.mechanic_name, f.rank, f.created_at
from (
  select
    f.mechanic_id, btrim(m.first_name || ' ' || m.last_name) as mechanic_name,
    row_number() over (order by f.rank, f.created_at, f.mechanic_id) as rank,
    (extract(epoch from f.created_at) * 1000)::bigint as created_at
  from customer_favorites f join mechanics m on m.id = f.mechanic_id
  where f.customer_id = $1
) as f

-- name: page
-- Ends `listed`. $2 limit, $3 the rank before
where f.rank > $3 order by f.rank limit $2

-- name: one
-- Ends `listed`. $2 mechanic
where f.mechanic_id = $2
