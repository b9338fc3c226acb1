#!lua
-- Writes one decision, whole or not at all. Knows no rule of the business: the caller decided.
--
-- KEYS  1 epoch, 2 session hash, 3 declined set, 4 active claim, 5 deadlines, 6 open, 7 journal,
--       8 bus channel, 9 idempotency, 10 offers set to leave, 11 offers set to join
-- ARGV  1 the plan, a msgpack map (fields of `CommitPlan` in sessions.py):
--         epoch, version (expected; 0 = must not exist), command, not_after, assignment
--         set [field, value …] (empty: history only, which takes no version), drop [field],
--         claim 'take'|'drop'|'', claimant, ghost (a holder that no longer exists), declined, fingerprint,
--         deadlines [due, member …], settled [member], open (ms to join the index, -1 to leave, 0 neither),
--         leave, join (booleans), journal [field, value …], journal_max, expire (ms, 0 never), hints [message]
-- Returns {'committed', journal id} | {'repeated'} | {'conflict'} | {'epoch'} | {'stale'}
--         | {'held', session id} | {'full'}

local plan = cmsgpack.unpack(ARGV[1])
local session, deadlines = KEYS[2], KEYS[5]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if redis.call('GET', KEYS[1]) ~= plan.epoch then return {'epoch'} end
local known = redis.call('HMGET', session, 'version', 'commands', 'asides')
local commands, asides = known[2] or '', known[3] or ''
if string.find(commands, plan.command, 1, true) then return {'repeated'} end
if string.find(asides, plan.command, 1, true) then return {'repeated'} end
if now > plan.not_after then return {'stale'} end
if tonumber(known[1] or '0') ~= plan.version then return {'conflict'} end
if plan.claim == 'take' then
  local holder = redis.call('GET', KEYS[4])
  if holder and holder ~= plan.claimant and holder ~= plan.ghost then return {'held', holder} end
end
if plan.journal_max > 0 and redis.call('XLEN', KEYS[7]) >= plan.journal_max then return {'full'} end

if plan.claim == 'take' then redis.call('SET', KEYS[4], plan.claimant) end
if plan.claim == 'drop' and redis.call('GET', KEYS[4]) == plan.claimant then redis.call('DEL', KEYS[4]) end
if #plan.drop > 0 then redis.call('HDEL', session, unpack(plan.drop)) end
if #plan.set > 0 then
  redis.call('HSET', session, 'commands', string.sub(plan.command .. ' ' .. commands, 1, 295), unpack(plan.set))
else
  -- Of their own, since many may come at once: they must not make the store forget what took a version.
  redis.call('HSET', session, 'asides', string.sub(plan.command .. ' ' .. asides, 1, 591))
end
if plan.declined ~= '' then redis.call('SADD', KEYS[3], plan.declined) end
if plan.fingerprint ~= '' then redis.call('SET', KEYS[9], plan.fingerprint, 'PX', 86400000) end
if #plan.settled > 0 then redis.call('ZREM', deadlines, unpack(plan.settled)) end
if #plan.deadlines > 0 then redis.call('ZADD', deadlines, unpack(plan.deadlines)) end
if plan.open > 0 then redis.call('ZADD', KEYS[6], plan.open, plan.assignment) end
if plan.open < 0 then redis.call('ZREM', KEYS[6], plan.assignment) end
if plan.leave then redis.call('SREM', KEYS[10], plan.assignment) end
if plan.join then redis.call('SADD', KEYS[11], plan.assignment) end
if plan.expire > 0 then
  redis.call('PEXPIRE', session, plan.expire)
  redis.call('PEXPIRE', KEYS[3], plan.expire)
end
local entry = redis.call('XADD', KEYS[7], '*', unpack(plan.journal))
for _, hint in ipairs(plan.hints) do redis.call('SPUBLISH', KEYS[8], hint) end
return {'committed', entry}
