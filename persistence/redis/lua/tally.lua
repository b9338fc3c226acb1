#!lua
-- Counts what the deadlines of one shard are for. Looks at no more than the earliest of them.
--
-- KEYS  1 deadlines
-- ARGV  1 deadlines to look at, 2 offers to list
-- Returns {deadlines, due of the earliest or '', offers, orphans, member, due, …}: the offers that end soonest

local limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local found = redis.call('ZRANGE', KEYS[1], 0, limit - 1, 'WITHSCORES')
local answer = {redis.call('ZCARD', KEYS[1]), found[2] or '', 0, 0}
for i = 1, #found, 2 do
  local kind = string.match(found[i], '^(%a+):')
  if kind == 'orphan' then answer[4] = answer[4] + 1 end
  if kind == 'offer' then
    answer[3] = answer[3] + 1
    if answer[3] <= wanted then
      answer[#answer + 1] = found[i]
      answer[#answer + 1] = found[i + 1]
    end
  end
end
return answer
