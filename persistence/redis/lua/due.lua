#!lua
-- Deadlines that are due, by the store's clock, with what a decision needs of their sessions. Removes nothing but
-- members of sessions that no longer exist: a deadline goes when the commit that applies its effect does.
--
-- KEYS  1 deadlines, 2 epoch
-- ARGV  1 limit, 2 prefix of session keys of this shard, 3 the same of sets of decliners
-- Returns {now ms, due of the earliest member left after those listed or '', epoch or '',
--          {member, due, fields of its session, ids of decliners}, …}; no fields where it has none that it is about

local limit, sessions, declined = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local flipped = {}
for digit = 0, 15 do
  flipped[string.format('%x', digit)] = string.format('%x', (digit + 8) % 16)
end

local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES')
local answer = {now, '', redis.call('GET', KEYS[2]) or ''}
for i = 1, #due, 2 do
  local kind, id = string.match(due[i], '^(%a+):(.+)$')
  local session = nil
  if kind == 'orphan' then session = id end
  if kind == 'offer' or kind == 'notify' then session = flipped[string.sub(id, 1, 1)] .. string.sub(id, 2) end
  local fields = session and redis.call('HGETALL', sessions .. session) or {}
  if session and #fields == 0 then
    redis.call('ZREM', KEYS[1], due[i])
  else
    local decliners = session and redis.call('SMEMBERS', declined .. session) or {}
    answer[#answer + 1] = {due[i], due[i + 1], fields, decliners}
  end
end
local later = redis.call('ZRANGE', KEYS[1], '(' .. now, '+inf', 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
if #due == limit * 2 then
  answer[2] = tostring(now)
elseif later[2] then
  answer[2] = later[2]
end
return answer
