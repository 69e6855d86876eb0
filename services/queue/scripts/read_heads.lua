-- Read where logs end.
--
-- ARGV[3] "task" or "batch"    ARGV[4...] ids
-- Reply: {epoch, for each id the last offset, or "" when there is none such}
local reply = {the_epoch()}
for i = 4, #ARGV do
  local key = ARGV[3] == 'task' and task_key(ARGV[i]) or batch_key(ARGV[i])
  reply[#reply + 1] = redis.call('HGET', key, 'event_seq') or ''
end
return reply
