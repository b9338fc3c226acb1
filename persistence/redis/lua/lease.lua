#!lua
-- Renews a node's lease.
--
-- KEYS  1 nodes
-- ARGV  1 node, 2 lease ms
-- Returns {now ms, lease before or '', node, lease expiry ms, …}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local before = redis.call('ZSCORE', KEYS[1], ARGV[1]) or ''
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
local answer = {now, before}
for _, value in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')) do answer[#answer + 1] = value end
return answer
