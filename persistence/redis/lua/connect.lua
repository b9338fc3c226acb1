-- A connection has come, or says that it is still there.
--
-- ARGV  2 connection, 3 node, 4 status chosen by a mechanic ('' = not a mechanic, '-' = keep), 5 limit per user,
--       6 'again' where it has been here before: the status is then what was chosen last, if nobody knows that
--         any more
-- Returns {now ms, effective status or '', connections, yielded connection, its node, …}

local connection, node, status, limit, again = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6] == 'again'

-- It yielded, and the word of that was lost: it must not become the newest of all.
local held = redis.call('HLEN', conns)
if again and held >= limit and redis.call('HEXISTS', conns, connection) == 0 then
  return {now, redis.call('HGET', presence, 'effective') or '', held, connection, node}
end

local since = string.match(redis.call('HGET', conns, connection) or '', '(%d+)$') or now
redis.call('HSET', conns, connection, node .. ' ' .. now .. ' ' .. since)
redis.call('ZREM', deadlines, grace)
local answer = {now, '', 0}
if status ~= '' then
  local before = redis.call('HGET', presence, 'effective') or 'offline'
  redis.call('HSET', presence, 'last_seen', now)
  if status ~= '-' and not (again and redis.call('HEXISTS', presence, 'status') == 1) then choose(status) end
  answer[2] = announce(before)
end
local all = redis.call('HGETALL', conns)
local excess = #all / 2 - limit
if excess > 0 then
  local ages = {}
  for i = 1, #all, 2 do
    if all[i] ~= connection then
      local holder, _, born = string.match(all[i + 1], '^(%S+) (%d+) (%d+)$')
      ages[#ages + 1] = {all[i], holder, tonumber(born)}
    end
  end
  table.sort(ages, function(a, b) return a[3] < b[3] end)
  for i = 1, math.min(excess, #ages) do
    redis.call('HDEL', conns, ages[i][1])
    answer[#answer + 1] = ages[i][1]
    answer[#answer + 1] = ages[i][2]
  end
end
answer[3] = redis.call('HLEN', conns)
return answer
