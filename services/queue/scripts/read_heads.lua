-- Uses: events
--
-- Read where logs end.
--
-- ARGV[3] "task" or "batch"    ARGV[4...] ids
-- Reply: {epoch, for each id the last offset, or "" when there is none such}
local reply = {the_epoch()}
for i = 4, #ARGV do
  local key = ARGV[3] == 'task' and task_key(ARGV[i]) or batch_key(ARGV[i])
  local found = redis.pcall('HMGET', key, 'status', 'event_seq')
  local last = found[1] and (found[2] or '1')
  reply[#reply + 1] = is_whole(last) and last or ''
end
return reply
