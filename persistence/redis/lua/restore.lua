#!lua
-- Writes a session as recovery found it, unless the store has a newer one or the customer has another session.
--
-- KEYS  1 session hash, 2 active claim, 3 deadlines, 4 open, 5 offers set
-- ARGV  1 a msgpack map: version, recorded (the record's version), prefix (of session keys of this shard), session,
--       assignment, set [field, value …], claim, deadlines [due, member …], open (ms or 0), offered,
--       expire (ms, 0 never)
-- Returns 'restored', 'newer' or 'held'

local plan = cmsgpack.unpack(ARGV[1])
if (tonumber(redis.call('HGET', KEYS[1], 'version') or nil) or -1) >= plan.recorded then return 'newer' end
local holder = redis.call('GET', KEYS[2])
if plan.claim and holder and holder ~= plan.session
    and redis.call('EXISTS', plan.prefix .. holder) == 1 then return 'held' end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(plan.set))
if plan.claim then redis.call('SET', KEYS[2], plan.session) end
if plan.expire > 0 then redis.call('PEXPIRE', KEYS[1], plan.expire) end
if #plan.deadlines > 0 then redis.call('ZADD', KEYS[3], unpack(plan.deadlines)) end
if plan.open > 0 then redis.call('ZADD', KEYS[4], plan.open, plan.assignment) end
if plan.offered then redis.call('SADD', KEYS[5], plan.assignment) end
return 'restored'
