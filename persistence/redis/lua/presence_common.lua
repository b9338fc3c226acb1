#!lua
-- Shared opening of the presence scripts.
--
-- KEYS  1 conns, 2 presence, 3 online, 4 deadlines, 5 bus channel, 6 work, 7 live, 8 busy, 9 away,
--       10 started (sessions)
-- ARGV  1 user

local conns, presence, online, deadlines, bus, work, live =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local indexes, started = {online = online, busy = KEYS[8], away = KEYS[9]}, KEYS[10]
local user = ARGV[1]
local grace = 'grace:' .. user
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function effective()
  local status = redis.call('HGET', presence, 'status') or 'offline'
  if (status == 'online' or status == 'away') and redis.call('SCARD', live) > 0 then return 'busy' end
  return status
end

-- What a mechanic chooses every node must know that has a connection of theirs, to say it again after a loss.
local function choose(status)
  if redis.call('HGET', presence, 'status') == status then return end
  redis.call('HSET', presence, 'status', status)
  redis.call('SPUBLISH', bus, '* ' .. cjson.encode({chosen = {mechanic_id = user, status = status}}))
end

-- Brings the indexes in line and tells everyone, where what others see has changed.
local function announce(before)
  local after = effective()
  redis.call('HSET', presence, 'effective', after)
  for status, index in pairs(indexes) do
    if after == status then
      redis.call('ZADD', index, 'NX', now, user)
    else
      redis.call('ZREM', index, user)
    end
  end
  if after ~= before then
    redis.call('HSET', presence, 'since', now)
    local seen = redis.call('HGET', presence, 'last_seen')
    redis.call('SPUBLISH', bus, '* ' .. cjson.encode({
      presence = {mechanic_id = user, status = after, last_seen = tonumber(seen or now)}}))
  end
  return after
end
