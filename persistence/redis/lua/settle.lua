#!lua
-- Removes or moves a deadline unless somebody moved it meanwhile, or the session it was about has changed.
--
-- KEYS  1 deadlines, 2 session hash (where its version matters)
-- ARGV  1 member, 2 due as it was seen, 3 new due or '', 4 version of the session
-- Returns 'settled', 'moved' or 'changed'

if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1') ~= tonumber(ARGV[2]) then return 'moved' end
if KEYS[2] and redis.call('HGET', KEYS[2], 'version') ~= ARGV[4] then return 'changed' end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 'settled'
