-- Facts about every object of schema $1, one row a fact, as this server prints them.
-- The search path must be that schema alone, so that two schemas of one shape print alike.
-- relation: the table or view it belongs to (null: none); kind and name: the object; fact: '' states its existence.
with spaces as (
  select oid from pg_namespace where nspname = $1
), relations as (
  select c.oid, c.relname, c.relkind, c.relrowsecurity, c.reloptions
  from pg_class c where c.relnamespace in (select oid from spaces) and c.relkind in ('r', 'p', 'v', 'm')
), columns as (
  select r.oid as relid, r.relname, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attidentity,
    a.attgenerated, pg_get_expr(d.adbin, d.adrelid) as default_expression
  from relations r
  join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
), functions as (
  select p.oid, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name
  from pg_proc p where p.pronamespace in (select oid from spaces) and p.prokind in ('f', 'p')
), enums as (
  select t.oid, t.typname from pg_type t where t.typnamespace in (select oid from spaces) and t.typtype = 'e'
)
select relname::text as relation, case when relkind in ('v', 'm') then 'view' else 'table' end as kind,
  relname::text as name, f.fact, f.value
from relations, lateral (values
  ('', ''),
  ('row level security', case when relrowsecurity then 'on' else 'off' end),
  ('definition', case when relkind in ('v', 'm') then pg_get_viewdef(oid) end),
  ('options', reloptions::text)
) as f (fact, value)
union all
select relname::text, 'comment on ' || case when relkind in ('v', 'm') then 'view' else 'table' end, relname::text, '', ''
from relations where obj_description(oid, 'pg_class') <> ''
union all
select relname::text, 'column', relname || '.' || attname, f.fact, f.value
from columns, lateral (values
  ('', ''),
  ('type', format_type(atttypid, atttypmod)),
  ('nullability', case when attnotnull then 'not null' else 'nullable' end),
  ('default', default_expression),
  ('identity', nullif(attidentity::text, '')),
  ('generation', nullif(attgenerated::text, ''))
) as f (fact, value)
union all
select relname::text, 'comment on column', relname || '.' || attname, '', ''
from columns where col_description(relid, attnum) <> ''
union all
-- Columns state nullability: servers differ in whether they also list it as constraints.
select r.relname::text, 'constraint', c.conname || ' on ' || r.relname, f.fact, f.value
from pg_constraint c join relations r on r.oid = c.conrelid and c.contype in ('p', 'u', 'f', 'c', 'x'),
lateral (values ('', ''), ('definition', pg_get_constraintdef(c.oid))) as f (fact, value)
union all
select r.relname::text, 'index', i.relname::text, f.fact, f.value
from pg_index x join pg_class i on i.oid = x.indexrelid join relations r on r.oid = x.indrelid,
lateral (values
  ('', ''),
  ('definition', pg_get_indexdef(i.oid)),
  ('state', case when x.indisvalid and x.indisready then 'valid' else 'invalid' end)
) as f (fact, value)
union all
select r.relname::text, 'trigger', t.tgname || ' on ' || r.relname, f.fact, f.value
from pg_trigger t join relations r on r.oid = t.tgrelid and not t.tgisinternal,
lateral (values
  ('', ''),
  ('definition', pg_get_triggerdef(t.oid)),
  ('state', case t.tgenabled when 'D' then 'disabled' when 'R' then 'replica only' else 'enabled' end)
) as f (fact, value)
union all
select r.relname::text, 'policy', p.polname || ' on ' || r.relname, f.fact, f.value
from pg_policy p join relations r on r.oid = p.polrelid,
lateral (values
  ('', ''),
  ('command', p.polcmd::text),
  ('kind', case when p.polpermissive then 'permissive' else 'restrictive' end),
  ('roles', (select string_agg(case role when 0 then 'public' else role::regrole::text end, ', ' order by role)
             from unnest(p.polroles) as role)),
  ('using', pg_get_expr(p.polqual, p.polrelid)),
  ('check', pg_get_expr(p.polwithcheck, p.polrelid))
) as f (fact, value)
union all
select null, 'function', name, f.fact, f.value
from functions, lateral (values ('', ''), ('definition', pg_get_functiondef(oid))) as f (fact, value)
union all
select null, 'comment on function', name, '', '' from functions where obj_description(oid, 'pg_proc') <> ''
union all
select null, 'type', typname::text, f.fact, f.value
from enums, lateral (values
  ('', ''),
  ('labels', (select string_agg(enumlabel, ', ' order by enumsortorder) from pg_enum where enumtypid = enums.oid))
) as f (fact, value)
union all
select null, 'comment on type', typname::text, '', '' from enums where obj_description(oid, 'pg_type') <> ''
