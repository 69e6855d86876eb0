-- Add one task to the line, or aside until its time.
--
-- ARGV[3] task id          ARGV[4] user id        ARGV[5] symbol
-- ARGV[6] params (JSON)    ARGV[7] head of the snapshot (JSON, no braces)
-- ARGV[8] plan: the first fragment of the snapshot (JSON, no braces)
-- ARGV[9] callback URL     ARGV[10] delay [s]     ARGV[11] time to start at [s since 1970], 0: none
-- ARGV[12] how long it is expected to take [s]    ARGV[13] most waiting tasks a user, 0: any
-- ARGV[14] idempotency key, "": none              ARGV[15] digest of the request
-- ARGV[16] how long the key is remembered [s]
-- Reply: the task without its snapshot, "full" or "conflict". Repeated with the same task id or the same idempotency key
-- it changes nothing.
local before = made_before(ARGV[14], ARGV[15])
if before == 'conflict' then return before end
local t = load_task(before or ARGV[3])
if t then return brief_reply(t, position(t.task_id)) end
if not has_room(ARGV[4], 1, tonumber(ARGV[13])) then return 'full' end
remember_made(ARGV[14], ARGV[15], ARGV[3], ARGV[16])
local run_at = math.max(NOW + tonumber(ARGV[10]), tonumber(ARGV[11]))
local added = add_task(ARGV[3], {
  user_id = ARGV[4], symbol = ARGV[5], params = ARGV[6], batch_id = '', head = ARGV[7],
  plan = ARGV[8], callback_url = ARGV[9], expected = ARGV[12], notify = '1',
}, run_at)
return brief_reply(added, position(ARGV[3]))
