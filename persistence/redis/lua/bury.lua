#!lua
-- Keeps an entry among the dead letters under its own id, or, where that is older than the last letter's, under a new
-- one. Once, however often called.
--
-- KEYS  1 dead letters
-- ARGV  1 id of the entry ('' none), 2 … fields: 'entry', id, 'command', command, …
-- Returns 'buried' or 'known'

local dead, id, command = KEYS[1], ARGV[1], ARGV[5]
local function known(letters)
  for _, letter in ipairs(letters) do
    local entry, by
    for i = 1, #letter[2], 2 do
      if letter[2][i] == 'entry' then entry = letter[2][i + 1] end
      if letter[2][i] == 'command' then by = letter[2][i + 1] end
    end
    if entry == id and by == command then return true end
  end
  return false
end

local last = redis.call('XREVRANGE', dead, '+', '-', 'COUNT', 1)[1]
if last and known(redis.call('XRANGE', dead, id == '' and '-' or id, '+')) then return 'known' end
if id ~= '' and not redis.pcall('XADD', dead, id, unpack(ARGV, 2)).err then return 'buried' end
redis.call('XADD', dead, '*', unpack(ARGV, 2))
return 'buried'
