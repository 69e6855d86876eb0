-- Uses: moves, essential
--
-- What is due: leases that ran out, delays that are over, ended tasks that are old.
--
-- ARGV[3] attempts before a task is dead    ARGV[4] retention [s], 0: forever
-- ARGV[5] how many of each at most
-- Reply: {expired leases, tasks that came into the line, deleted tasks, in how many seconds the next
-- thing falls due as text, "" for never}.
local max_attempts, retention, most = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local function due(zset, before)
  return redis.call('ZRANGEBYSCORE', P .. zset, '-inf', before, 'LIMIT', 0, most)
end

local expired = due('processing', lease_until(NOW))
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

settle()

local deleted = 0
if retention > 0 then
  for _, id in ipairs(due('ended', NOW - retention)) do
    delete_task(load_task(id))
    deleted = deleted + 1
  end
  for _, id in ipairs(due('ended_batches', NOW - retention)) do
    redis.call('DEL', batch_key(id), P .. 'batch_tasks:' .. id, log_key('batch', id))
    redis.call('ZREM', P .. 'ended_batches', id)
  end
end

local following
local function look_at(zset, later, unit)
  local first = redis.call('ZRANGE', P .. zset, 0, 0, 'WITHSCORES')[2]
  if first then following = math.min(following or math.huge, first * (unit or 1) + later) end
end
look_at('processing', 0, LEASE_UNIT)
look_at('delayed', 0)
if retention > 0 then
  look_at('ended', retention)
  look_at('ended_batches', retention)
end
return {#expired, #come, deleted, following and stamp(math.max(following - NOW, 0)) or ''}
