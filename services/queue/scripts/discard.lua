-- Uses: always, moves
--
-- Delete a task that failed or is dead, or one that was set aside because it cannot be read.
--
-- id
-- Reply: 1, or 0 when there is no such one of this id.
if redis.call('SREM', P .. 'broken', A.id) == 1 then
  redis.call('DEL', task_key(A.id), log_key('task', A.id), kept_key(A.id), asked_key(A.id))
  return 1
end
local t = load_task(A.id)
if not t or not (t.status == 'dead' or t.status == 'failed') then return 0 end
delete_task(t)
return 1
