-- Uses: always, moves
--
-- Delete a dead task, or one that was set aside because it cannot be read.
--
-- ARGV[3] task id
-- Reply: 1, or 0 when there is no such one of this id.
if redis.call('SREM', P .. 'broken', ARGV[3]) == 1 then
  redis.call('DEL', task_key(ARGV[3]), log_key('task', ARGV[3]))
  return 1
end
local t = load_task(ARGV[3])
if not t or t.status ~= 'dead' then return 0 end
delete_task(t)
return 1
