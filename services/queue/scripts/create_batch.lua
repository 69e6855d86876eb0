-- Uses: add
--
-- Add a batch and all its tasks to the line.
--
-- ARGV[3] batch id         ARGV[4] user id        ARGV[5] head of its snapshot (JSON, no braces)
-- ARGV[6] params (JSON)    ARGV[7] plan           ARGV[8] how long a task is expected to take [s]
-- ARGV[9] "1" to make a notification of each task too                ARGV[10] most waiting tasks a
-- user, 0: any             ARGV[11] idempotency key, "": none        ARGV[12] digest of the request
-- ARGV[13] how long the key is remembered [s]     ARGV[14] keys remembered a user, 0: any
-- ARGV[15...] for each task: its id, symbol, head
-- Reply: {batch id, user id, status, snapshot, task ids}, "full" or "conflict". Repeated with the
-- same batch id or the same idempotency key it changes nothing.
local before = made_before(ARGV[11], ARGV[12])
if before == 'conflict' then return before end
local id, user = before or ARGV[3], ARGV[4]
if redis.call('EXISTS', batch_key(id)) == 1 then return batch_reply(id) end
local total = (#ARGV - 14) / 3
if not has_room(user, total, tonumber(ARGV[10])) then return 'full' end
remember_made(user, ARGV[11], ARGV[12], id, ARGV[13], tonumber(ARGV[14]))
local b = adopt({
  _key = batch_key(id), _changes = false, _numbered = false, batch_id = id, event_seq = '1', logged = '1',
}, BATCH)
set(b, 'user_id', user, 'head', ARGV[5], 'total', tostring(total), 'progress_sum', '0',
  'queued', tostring(total), 'status', 'queued', 'created_at', NOW_STAMP)
for i = 15, #ARGV, 3 do
  redis.call('RPUSH', P .. 'batch_tasks:' .. id, ARGV[i])
  add_task(ARGV[i], user, id, ARGV[i + 1], ARGV[6], '', ARGV[9], ARGV[8], ARGV[i + 2], ARGV[7], NOW)
end
return batch_reply(id)
