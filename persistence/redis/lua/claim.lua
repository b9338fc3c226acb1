-- Takes a place for a session in a mechanic's work before the accept is committed. A deadline makes sure that a
-- place which was taken in vain is given back.
--
-- ARGV  2 session, 3 capacity, 4 deadline member, 5 ms until it is checked
-- Returns {now ms, 'claimed' or 'full'}

local session, capacity = ARGV[2], tonumber(ARGV[3])
if redis.call('SISMEMBER', work, session) == 1 then return {now, 'claimed'} end
if redis.call('SCARD', work) >= capacity then return {now, 'full'} end
redis.call('SADD', work, session)
redis.call('ZADD', deadlines, now + tonumber(ARGV[5]), ARGV[4])
return {now, 'claimed'}
