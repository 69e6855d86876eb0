-- Uses: always, moves, reply
--
-- End tasks as cancelled.
--
-- ARGV[3] "task" or "batch"    ARGV[4] its id     ARGV[5] the user who may; "": anybody
-- ARGV[6] ended tasks kept a user, 0: any         ARGV[7] how many at most
-- Reply: the task; or {1 when not all of it is done, else 0, the batch as get_batch has it}; nil when
-- there is none of this user. What has ended already stays as it is.
local kind, id, user, most = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[7])
most_ended = tonumber(ARGV[6])

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
local cancelled, more = 0, 0
for _, task_id in ipairs(redis.call('LRANGE', P .. 'batch_tasks:' .. id, 0, -1)) do
  if not ENDED[redis.call('HGET', task_key(task_id), 'status')] then
    if cancelled == most then
      more = 1
      break
    end
    local t = load_task(task_id)
    if t then
      cancel(t)
      cancelled = cancelled + 1
    end
  end
end
wake_workers()
return {more, batch_reply(id)}
