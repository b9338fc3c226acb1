#!lua flags=no-writes
-- What a decision needs of one session, at one moment.
--
-- KEYS  1 epoch, 2 session hash, 3 declined set; of a booking also 4 active claim, 5 idempotency, and where it
--       may have been made before under another id, that one's 6 session hash, 7 idempotency
-- ARGV  1 prefix of session keys of this shard
-- Returns {now ms, epoch or '', fields of the session, ids of decliners, held session id or '',
--          fields of the held session, fingerprint or '', whether it was made before (1 or 0)}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fields = redis.call('HGETALL', KEYS[2])
local declined = redis.call('SMEMBERS', KEYS[3])
local held, held_fields, fingerprint, earlier = '', {}, '', 0
if KEYS[4] then
  held = redis.call('GET', KEYS[4]) or ''
  if held ~= '' then
    held_fields = redis.call('HGETALL', ARGV[1] .. held)
  end
  fingerprint = redis.call('GET', KEYS[5]) or ''
end
if KEYS[6] then
  earlier = redis.call('EXISTS', KEYS[6], KEYS[7]) > 0 and 1 or 0
end
return {now, redis.call('GET', KEYS[1]) or '', fields, declined, held, held_fields, fingerprint, earlier}
