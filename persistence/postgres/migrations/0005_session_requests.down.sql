-- An archived table stands beside a view of its old name; a drop has to match what the name is.
do $$
begin
  if exists (select from pg_class where oid = to_regclass('session_requests') and relkind = 'v') then
    drop view session_requests;
  end if;
end
$$;
drop table if exists session_requests_archived;
drop table if exists session_requests;
drop type if exists session_request_status;
drop type if exists session_type;
