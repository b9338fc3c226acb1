-- A mechanic chooses a status.
--
-- ARGV  2 status
-- Returns {now ms, effective status}

local before = redis.call('HGET', presence, 'effective') or 'offline'
redis.call('HSET', presence, 'last_seen', now)
choose(ARGV[2])
return {now, announce(before)}
