-- What a mechanic does with a session: holds it or not, live or not.
--
-- ARGV  2 session, 3 'held', 'live' or ''
-- Returns {now ms, effective status}

local session, state = ARGV[2], ARGV[3]
local before = redis.call('HGET', presence, 'effective') or 'offline'
redis.call(state == '' and 'SREM' or 'SADD', work, session)
redis.call(state == 'live' and 'SADD' or 'SREM', live, session)
redis.call(state == 'live' and 'SADD' or 'SREM', started, session)
if redis.call('EXISTS', presence) == 0 then return {now, 'offline'} end
return {now, announce(before)}
