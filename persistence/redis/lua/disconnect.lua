-- A connection has gone. The user's last one starts the grace period; a connection that is no longer listed
-- changes nothing, so a late goodbye of an old socket cannot erase a new one.
--
-- ARGV  2 connection, 3 grace ms
-- Returns {now ms, connections left, 'mechanic' or ''}

local connection, grace_ms = ARGV[2], tonumber(ARGV[3])

local gone = redis.call('HDEL', conns, connection)
local left = redis.call('HLEN', conns)
local mechanic = redis.call('EXISTS', presence)
if gone == 1 and mechanic == 1 then
  redis.call('HSET', presence, 'last_seen', now)
  if left == 0 then redis.call('ZADD', deadlines, now + grace_ms, grace) end
end
return {now, left, mechanic == 1 and 'mechanic' or ''}
