#!lua
-- Removes or moves a deadline unless somebody moved it meanwhile.
--
-- KEYS  1 deadlines
-- ARGV  1 member, 2 due as it was seen, 3 new due or ''
-- Returns 'settled' or 'moved'

if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1') ~= tonumber(ARGV[2]) then return 'moved' end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 'settled'
