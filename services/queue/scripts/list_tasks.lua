-- Uses: reply
--
-- Read a user's newest tasks.
--
-- ARGV[3] user id          ARGV[4] how many at most
-- Reply: the tasks, newest first.
local tasks = {}
for _, id in ipairs(redis.call('ZREVRANGE', P .. 'tasks:' .. ARGV[3], 0, ARGV[4] - 1)) do
  local t = load_task(id)
  if t then tasks[#tasks + 1] = reply(t) end
end
return tasks
