#!lua
-- Puts a dead letter back into the journal.
--
-- KEYS  1 dead letters, 2 journal
-- ARGV  1 id of the dead letter
-- Returns the journal's new id, '' where there is no such letter

local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then return '' end
local fields = {}
for i = 1, #letter[2], 2 do
  local name = letter[2][i]
  if name == 'events' or name == 'session' or name == 'command' then
    fields[#fields + 1] = name
    fields[#fields + 1] = letter[2][i + 1]
  end
end
local entry = redis.call('XADD', KEYS[2], '*', unpack(fields))
redis.call('XDEL', KEYS[1], ARGV[1])
return entry
