drop table if exists journal_cursor;
drop table if exists session_events;
drop function if exists hub_refuse_update();
drop table if exists session_assignments;
drop table if exists session_participants;
drop table if exists sessions;
