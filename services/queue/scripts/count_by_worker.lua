-- Uses: base
--
-- Read which workers have the running tasks.
--
-- most: how many tasks are looked at, at most
-- Reply: the worker of each.
local workers = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'processing', 0, A.most - 1)) do
  workers[#workers + 1] = redis.call('HGET', task_key(id), 'worker_id') or ''
end
return workers
