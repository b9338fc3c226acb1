-- The grace period of a mechanic without connections is over. The deadline itself stays until the caller has
-- applied everything that follows.
--
-- Returns {now ms, 'offline' or 'present'}

if redis.call('HLEN', conns) > 0 then return {now, 'present'} end
local before = redis.call('HGET', presence, 'effective') or 'offline'
-- Nobody chose to be offline: a connection that was there all along brings back what was chosen.
redis.call('HDEL', presence, 'status')
announce(before)
return {now, 'offline'}
