-- Uses: reply
--
-- Read dead tasks.
--
-- ARGV[3] how many to pass over            ARGV[4] how many at most
-- Reply: the tasks, the last to die first.
local tasks = {}
local stop = ARGV[3] + ARGV[4] - 1
for _, id in ipairs(redis.call('ZREVRANGE', P .. 'dead', ARGV[3], stop)) do
  local t = load_task(id)
  if t then tasks[#tasks + 1] = reply(t) end
end
return tasks
