-- Uses: events
--
-- Read where logs end.
--
-- what: "task" or "batch"     ids
-- Reply: {epoch, for each id the last offset, or "" when there is none such}
local reply = {the_epoch()}
for _, id in ipairs(A.ids) do
  local key = A.what == 'task' and task_key(id) or batch_key(id)
  local found = redis.pcall('HMGET', key, 'status', 'event_seq')
  local last = found[1] and (found[2] or '1')
  reply[#reply + 1] = is_whole(last) and last or ''
end
return reply
