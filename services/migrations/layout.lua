-- Find the version of records that name none.
--
-- KEYS[1] the prefix of all keys       ARGV names of tasks and batches: "task:ID", "batch:ID"
-- Reply: the lowest version among them.
local P, version = KEYS[1], 3
for _, name in ipairs(ARGV) do
  if redis.call('EXISTS', P .. 'events:' .. name) == 1 then return 1 end
  if string.sub(name, 1, 5) == 'task:' and redis.call('TYPE', P .. name).ok == 'hash'
      and redis.call('HEXISTS', P .. name, 'made') == 0
      and redis.call('HEXISTS', P .. name, 'head') == 1 then
    version = 2
  end
end
return redis.call('EXISTS', P .. 'pending') == 1 and 1 or version
