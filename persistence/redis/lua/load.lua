#!lua flags=no-writes
-- What a decision needs of one session, at one moment.
--
-- KEYS  1 epoch, 2 session hash, 3 declined set, 4 active claim (bookings only), 5 idempotency (bookings only)
-- ARGV  1 prefix of session keys of this shard
-- Returns {now ms, epoch or '', fields of the session, ids of decliners, held session id or '',
--          fields of the held session, fingerprint or ''}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fields = redis.call('HGETALL', KEYS[2])
local declined = redis.call('SMEMBERS', KEYS[3])
local held, held_fields, fingerprint = '', {}, ''
if KEYS[4] then
  held = redis.call('GET', KEYS[4]) or ''
  if held ~= '' then
    held_fields = redis.call('HGETALL', ARGV[1] .. held)
  end
  fingerprint = redis.call('GET', KEYS[5]) or ''
end
return {now, redis.call('GET', KEYS[1]) or '', fields, declined, held, held_fields, fingerprint}
