-- Uses: moves, reply, essential
--
-- End tasks as cancelled.
--
-- ARGV[3] "task" or "batch"    ARGV[4] its id     ARGV[5] the user who may; "": anybody
-- Reply: the task, or the batch as get_batch has it; nil when there is none of this user. What has ended
-- already stays as it is.
local kind, id, user = ARGV[3], ARGV[4], ARGV[5]

local function cancel(t)
  if ENDED[t.status] then return end
  if t.status == 'processing' then
    redis.call('PUBLISH', 'rt:workers',
      '{"type":"cancel","data":{"task_id":"' .. t.task_id .. '"}}')
  end
  end_task(t, 'cancelled', '', '', '', '')
end

if kind == 'task' then
  local t = load_task(id)
  if not t or (user ~= '' and t.user_id ~= user) then return false end
  cancel(t)
  wake_workers()
  return reply(t)
end

local b = load_batch(id)
if not b or (user ~= '' and b.user_id ~= user) then return false end
for _, task_id in ipairs(redis.call('LRANGE', P .. 'batch_tasks:' .. id, 0, -1)) do
  local t = load_task(task_id)
  if t then cancel(t) end
end
wake_workers()
return batch_reply(id)
