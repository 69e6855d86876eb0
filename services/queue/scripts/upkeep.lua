-- What is due: leases that ran out, delays that are over, ended tasks that are old.
--
-- ARGV[3] attempts before a task is dead    ARGV[4] retention [s], 0: forever
-- ARGV[5] how many of each at most
-- Reply: {expired leases, tasks that came into the line, deleted tasks}.
local max_attempts, retention, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function due(zset, before)
  return redis.call('ZRANGEBYSCORE', P .. zset, '-inf', before, 'LIMIT', 0, most)
end

local expired = due('processing', NOW)
for _, id in ipairs(expired) do
  give_back(load_task(id), max_attempts, 'the worker was lost', NOW, '')
end

local come = due('delayed', NOW)
for _, id in ipairs(come) do
  local t = load_task(id)
  leave(t)
  wait_in_line(t, NOW)
  emit_progress(t)
end

local deleted = 0
if retention > 0 then
  for _, id in ipairs(due('ended', NOW - retention)) do
    local t = load_task(id)
    redis.call('DEL', task_key(id), events_key('task', id))
    redis.call('ZREM', P .. 'ended', id)
    redis.call('ZREM', P .. 'tasks:' .. t.user_id, id)
    count('counts', t.status, -1)
    deleted = deleted + 1
  end
  for _, id in ipairs(due('ended_batches', NOW - retention)) do
    redis.call('DEL', batch_key(id), P .. 'batch_tasks:' .. id, events_key('batch', id))
    redis.call('ZREM', P .. 'ended_batches', id)
  end
end
return {#expired, #come, deleted}
