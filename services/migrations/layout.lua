-- Find the version of records that name none.
--
-- KEYS[1] the prefix of all keys       ARGV names of tasks and batches: "task:ID", "batch:ID"
-- Reply: the lowest version among them.
-- Version 5 changes nothing in Redis.
local P, version = KEYS[1], 5
local function look_at(name)
  if redis.call('TYPE', P .. name).ok ~= 'hash' then return end
  local made = redis.call('HGET', P .. name, 'made')
  if not made then
    if redis.call('HEXISTS', P .. name, 'head') == 1 then version = math.min(version, 2) end
    return
  end
  local readable, fields = pcall(cmsgpack.unpack, made)
  if readable and type(fields) == 'table' and #fields == 11 then version = math.min(version, 3) end
end
for _, name in ipairs(ARGV) do
  if redis.call('EXISTS', P .. 'events:' .. name) == 1 then return 1 end
  if string.sub(name, 1, 5) == 'task:' then look_at(name) end
end
return redis.call('EXISTS', P .. 'pending') == 1 and 1 or version
