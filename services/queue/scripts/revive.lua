-- Uses: moves, reply
--
-- Put a dead task back into the line, with all its attempts before it.
--
-- ARGV[3] task id
-- Reply: the task; nil when there is no dead one of this id. A batch that has ended stays ended: the
-- task then goes on without it.
local t = load_task(ARGV[3])
if not t or t.status ~= 'dead' then return false end
-- What comes now has numbers behind its end, which is to be found among them.
keep_told(t)
forget_end(t)
local b = t.batch_id ~= '' and load_batch(t.batch_id)
if b and b.ended_at then
  redis.call('LREM', P .. 'batch_tasks:' .. t.batch_id, 1, t.task_id)
  -- The fields that a later version keeps behind ours stay.
  local made = cmsgpack.unpack(t.made)
  made[2], t.batch_id = '', ''
  set(t, 'made', cmsgpack.pack(made))
end
local from = t.status
set(t, 'attempt', '0', 'error', '', 'ended_at', '', 'fragment', '', 'percent', '0', 'revived',
  tostring(t.revived + 1))
wait_in_line(t, NOW)
emit_progress(t)
follow_in_batch(t, from, 100)
return reply(t)
