#!lua
-- Removes from one place the sessions that no longer exist.
--
-- KEYS  1 the place: open, an offers set, or an active claim
-- ARGV  1 prefix of session keys of this shard, 2 session, member that stands for it, session, member …
-- Returns the sessions that were removed

local place, prefix = KEYS[1], ARGV[1]
local kind = redis.call('TYPE', place).ok
local removed = {}
for i = 2, #ARGV, 2 do
  local session, member = ARGV[i], ARGV[i + 1]
  local gone = 0
  if redis.call('EXISTS', prefix .. session) == 0 then
    if kind == 'zset' then gone = redis.call('ZREM', place, member) end
    if kind == 'set' then gone = redis.call('SREM', place, member) end
    if kind == 'string' and redis.call('GET', place) == member then gone = redis.call('DEL', place) end
  end
  if gone == 1 then removed[#removed + 1] = session end
end
return removed
