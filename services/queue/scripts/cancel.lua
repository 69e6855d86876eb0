-- Uses: always, moves, reply
--
-- End tasks as cancelled.
--
-- what: "task" or "batch"     id      user: who may, "": anybody    kept: ended tasks kept a user, 0: any
-- most: how many at most                            by: who asks for it (see lib/moves.lua)
-- Reply: the task; or {1 when not all of it is done, else 0, the batch as get_batch has it}; nil when
-- there is none of this user. Ended tasks stay as they are.
local id, user = A.id, A.user
most_ended = A.kept

if A.what == 'task' then
  local t = load_task(id)
  if not t or (user ~= '' and t.user_id ~= user) then return false end
  cancel(t, A.by)
  return reply(t)
end

local b = load_batch(id)
if not b or (user ~= '' and b.user_id ~= user) then return false end
local cancelled, more = 0, 0
for _, task_id in ipairs(redis.call('LRANGE', P .. 'batch_tasks:' .. id, 0, -1)) do
  if not ENDED[redis.call('HGET', task_key(task_id), 'status')] then
    if cancelled == A.most then
      more = 1
      break
    end
    local t = load_task(task_id)
    if t then
      cancel(t, A.by)
      cancelled = cancelled + 1
    end
  end
end
return {more, batch_reply(id)}
