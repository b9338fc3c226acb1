#!lua
-- Puts a session's places right where they do not follow from it, unless it has moved on since it was read.
--
-- KEYS  1 epoch, 2 session hash, 3 active claim, 4 deadlines, 5 open, 6 offers set
-- ARGV  1 a msgpack map: epoch, version, prefix (of session keys of this shard), session, assignment, claim,
--       deadlines [due, member …], none [member that must not be], open (ms or 0), offered
-- Returns the places that were wrong: 'claim_missing' | 'claim_left' | 'deadline_missing' | 'deadline_left'
--         | 'open_missing' | 'open_left' | 'offer_missing'

local plan = cmsgpack.unpack(ARGV[1])
local claim, deadlines, open, offers = KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

if redis.call('GET', KEYS[1]) ~= plan.epoch then return {} end
if tonumber(redis.call('HGET', KEYS[2], 'version') or '-1') ~= plan.version then return {} end

local wrong = {}
local holder = redis.call('GET', claim)
if plan.claim and holder ~= plan.session
    and not (holder and redis.call('EXISTS', plan.prefix .. holder) == 1) then
  redis.call('SET', claim, plan.session)
  wrong[#wrong + 1] = 'claim_missing'
elseif not plan.claim and holder == plan.session then
  redis.call('DEL', claim)
  wrong[#wrong + 1] = 'claim_left'
end
for i = 1, #plan.deadlines, 2 do
  local due, member = tonumber(plan.deadlines[i]), plan.deadlines[i + 1]
  local at = tonumber(redis.call('ZSCORE', deadlines, member) or '-1')
  -- One that is due may have been set back, because it could not be applied.
  if at < 0 or (at > due and due > now) then
    redis.call('ZADD', deadlines, due, member)
    wrong[#wrong + 1] = 'deadline_missing'
  end
end
if redis.call('ZREM', deadlines, unpack(plan.none)) > 0 then wrong[#wrong + 1] = 'deadline_left' end
if plan.open > 0 and not redis.call('ZSCORE', open, plan.assignment) then
  redis.call('ZADD', open, plan.open, plan.assignment)
  wrong[#wrong + 1] = 'open_missing'
elseif plan.open == 0 and redis.call('ZREM', open, plan.assignment) == 1 then
  wrong[#wrong + 1] = 'open_left'
end
if plan.offered and redis.call('SADD', offers, plan.assignment) == 1 then
  wrong[#wrong + 1] = 'offer_missing'
end
return wrong
