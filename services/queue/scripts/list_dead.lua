-- Uses: reply
--
-- Read dead tasks.
--
-- passed: how many to pass over      most: how many at most
-- Reply: the tasks, the last to die first.
local tasks = {}
for _, id in ipairs(redis.call('ZREVRANGE', P .. 'dead', A.passed, A.passed + A.most - 1)) do
  local t = load_task(id)
  if t then tasks[#tasks + 1] = reply(t) end
end
return tasks
