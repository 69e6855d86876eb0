-- Add a batch and all its tasks to the line.
--
-- ARGV[3] batch id         ARGV[4] user id        ARGV[5] head of the batch's snapshot (JSON, no braces)
-- ARGV[6] params (JSON)    ARGV[7] plan           ARGV[8] most waiting tasks a user, 0: any
-- ARGV[9...] for each task: its id, symbol, head
-- Reply: the batch's snapshot, or "full". Repeated with the same batch id it changes nothing.
local id, user = ARGV[3], ARGV[4]
local b = read_hash(batch_key(id))
if b then return batch_snapshot(b) end
local total = (#ARGV - 8) / 3
if not has_room(user, total, tonumber(ARGV[8])) then return 'full' end
redis.call('HSET', batch_key(id), 'user_id', user, 'head', ARGV[5], 'total', total,
  'progress_sum', '0', 'queued', total, 'status', 'queued', 'created_at', stamp(NOW))
for i = 9, #ARGV, 3 do
  redis.call('RPUSH', P .. 'batch_tasks:' .. id, ARGV[i])
  add_task(ARGV[i], user, ARGV[i + 1], ARGV[6], id, ARGV[i + 2], ARGV[7], '', NOW)
end
local made = batch_snapshot(read_hash(batch_key(id)))
emit('batch', id, batch_key(id), 'progress', made)
return made
