-- The view rests on what earlier migrations made; the archived table stays, and up puts the view back.
do $$
begin
  if exists (select from pg_class where oid = to_regclass('session_requests') and relkind = 'v') then
    drop view session_requests;
  end if;
end
$$;
drop function if exists hub_show_archived_requests();
