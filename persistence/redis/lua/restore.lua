#!lua
-- Writes sessions as recovery found them, each unless the store has it as new or its customer has another session.
-- Where an older version is there, its places go.
--
-- KEYS  1 deadlines, 2 open, 3 journal; then for each session 1 hash, 2 active claim; then what `items` point to
-- ARGV  1 a msgpack map: prefix (of session keys of this shard), kinds [[field, value … that all of a kind have]],
--       items [{version, recorded (the record's version), command (which made that), knew (the version that `none`
--       and `leave` are of; 0: it was not there, -1: whatever it is), session, assignment, kind (its number),
--       set [field, value … besides; all of a kind have the same fields], claim, deadlines [due, member …],
--       none [member that must not be], open (ms), journal [field, value …], expire (ms), and places among KEYS:
--       declined (the set that expires, too), join, leave (sets of offers)}]; what does not apply is absent
-- Returns for each 'restored', 'newer', 'moved' (it went on from an older version), 'held' or 'changed' (an older
-- version is there, and not the one that the caller knew)

local plan = cmsgpack.unpack(ARGV[1])
local deadlines, open, journal = KEYS[1], KEYS[2], KEYS[3]
local due, opened, claimed = {}, {}, {}

-- A store that was emptied has none of them, and that is asked of all at once.
local hashes, claims = {}, {}
for i = 1, #plan.items do
  hashes[i], claims[i] = KEYS[2 * i + 2], KEYS[2 * i + 3]
end
local some = redis.call('EXISTS', unpack(hashes)) > 0
local holders = {}
for i, holder in ipairs(redis.call('MGET', unpack(claims))) do holders[claims[i]] = holder end

-- A session that was restored and not changed since is no newer than what it was restored from.
local function stands(item, hash)
  local known = redis.call('HMGET', hash, 'version', 'restored', 'commands')
  local version = tonumber(known[1] or nil)
  if not version then return end
  local basis, restored = string.match(known[2] or '', '^(%d+) (%d+)$')
  basis, restored = tonumber(basis), tonumber(restored)
  if (version == restored and basis or version) < item.recorded then
    return (item.knew < 0 or item.knew == version) and 'older' or 'changed'
  end
  -- What was recorded before the restoration is in it or was passed over; what came later is as in any life.
  if basis and item.recorded <= restored then return basis >= item.recorded and 'newer' or 'moved' end
  -- The last eight commands are known.
  local unknown = item.command ~= '' and not string.find(known[3] or '', item.command, 1, true)
  local booking = item.recorded == 1
  return unknown and not booking and version < item.recorded + 8 and 'moved' or 'newer'
end

local answer = {}

-- A copy with some fields changed costs half of a hash that is written field by field. What differs stands first,
-- where it is found soon.
local first = {}
local function write(item, hash)
  local alike = first[item.kind]
  if alike then redis.call('COPY', alike, hash) end
  local restored = string.format('%.0f %.0f', math.min(item.recorded, item.version), item.version)
  redis.call('HSET', hash, 'restored', restored, 'commands', item.command, unpack(item.set))
  if not alike then
    redis.call('HSET', hash, unpack(plan.kinds[item.kind]))
    first[item.kind] = hash
  end
end

local function restore(item, hash, claim)
  local known = some and stands(item, hash)
  if known and known ~= 'older' then return known end
  local holder = holders[claim]
  if item.claim then
    if holder and holder ~= item.session and redis.call('EXISTS', plan.prefix .. holder) == 1 then return 'held' end
    holders[claim] = item.session
    claimed[#claimed + 1] = claim
    claimed[#claimed + 1] = item.session
  end
  if some then redis.call('DEL', hash) end
  if known then
    if item.none then redis.call('ZREM', deadlines, unpack(item.none)) end
    redis.call('ZREM', open, item.assignment)
    if item.leave then redis.call('SREM', KEYS[item.leave], item.assignment) end
    if not item.claim and holder == item.session then
      redis.call('DEL', claim)
      holders[claim] = nil
    end
  end
  write(item, hash)
  if item.expire then
    redis.call('PEXPIRE', hash, item.expire)
    redis.call('PEXPIRE', KEYS[item.declined], item.expire)
  end
  for _, part in ipairs(item.deadlines or {}) do due[#due + 1] = part end
  if item.open then
    opened[#opened + 1] = item.open
    opened[#opened + 1] = item.assignment
  end
  if item.join then redis.call('SADD', KEYS[item.join], item.assignment) end
  if item.journal then redis.call('XADD', journal, '*', unpack(item.journal)) end
  return 'restored'
end

for i, item in ipairs(plan.items) do answer[i] = restore(item, hashes[i], claims[i]) end
if #claimed > 0 then redis.call('MSET', unpack(claimed)) end
if #due > 0 then redis.call('ZADD', deadlines, unpack(due)) end
if #opened > 0 then redis.call('ZADD', open, unpack(opened)) end
return answer
