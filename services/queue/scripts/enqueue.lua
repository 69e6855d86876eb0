-- Uses: add, reply
--
-- Add tasks to the line, or aside until their time.
--
-- ARGV[3] most waiting tasks a user, 0: any       ARGV[4] how long a key is remembered [s]
-- ARGV[5] keys remembered a user, 0: any
-- ARGV[6...] for each task: its id, user id, symbol, params (JSON), head of the snapshot (JSON, no
-- braces), plan: the first fragment of the snapshot (JSON, no braces), callback URL, delay [s], time
-- to start at [s since 1970], 0: none, how long it is expected to take [s], idempotency key, "": none,
-- digest of the request
-- Reply: for each {status, when it was made, position or ""} of a new one, the fields of one that there
-- is, "full" or "conflict". Repeated with the same task id or the same idempotency key it changes
-- nothing.
local ARGUMENTS = 12

local function enqueue(id, user, symbol, params, head, plan, callback_url, delay, run_at, expected,
    key, digest)
  local before = made_before(key, digest)
  if before == 'conflict' then return before end
  local t = load_task(before or id)
  if t then return brief_reply(t, position(t.task_id)) end
  if not has_room(user, 1, tonumber(ARGV[3])) then return 'full' end
  remember_made(user, key, digest, id, ARGV[4], tonumber(ARGV[5]))
  local added = add_task(id, user, '', symbol, params, callback_url, '', expected, head, plan,
    math.max(NOW + delay, tonumber(run_at)))
  -- Nobody stands behind it yet.
  local here = added.status == 'queued' and redis.call('ZCARD', P .. 'waiting') or ''
  return {added.status, NOW_STAMP, here}
end

local replies = {}
for i = 6, #ARGV, ARGUMENTS do
  replies[#replies + 1] = enqueue(unpack(ARGV, i, i + ARGUMENTS - 1))
end
return replies
