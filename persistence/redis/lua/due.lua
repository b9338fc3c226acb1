#!lua
-- Deadlines that are due, by the store's clock. Removes nothing but members of sessions that no longer exist:
-- a deadline goes when the commit that applies its effect does.
--
-- KEYS  1 deadlines
-- ARGV  1 limit, 2 prefix of session keys of this shard
-- Returns {now ms, due of the earliest member left after those listed or '', member, due, member, due …}

local limit, prefix = tonumber(ARGV[1]), ARGV[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local flipped = {}
for digit = 0, 15 do
  flipped[string.format('%x', digit)] = string.format('%x', (digit + 8) % 16)
end

local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
local answer = {now, ''}
for i = 1, #due, 2 do
  local kind, id = string.match(due[i], '^(%a+):(.+)$')
  local session = nil
  if kind == 'orphan' then session = id end
  if kind == 'offer' or kind == 'notify' then session = flipped[string.sub(id, 1, 1)] .. string.sub(id, 2) end
  if session and redis.call('EXISTS', prefix .. session) == 0 then
    redis.call('ZREM', KEYS[1], due[i])
  else
    answer[#answer + 1] = due[i]
    answer[#answer + 1] = due[i + 1]
  end
end
local later = redis.call('ZRANGE', KEYS[1], '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
if #due == limit * 2 then
  answer[2] = tostring(now)
elseif later[2] then
  answer[2] = later[2]
end
return answer
