-- A mechanic chooses a status.
--
-- ARGV  2 status
-- Returns {now ms, effective status}

local before = redis.call('HGET', presence, 'effective') or 'offline'
redis.call('HSET', presence, 'status', ARGV[2], 'last_seen', now)
return {now, announce(before)}
