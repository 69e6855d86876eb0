-- Add one task to the line.
--
-- ARGV[3] task id          ARGV[4] user id        ARGV[5] symbol
-- ARGV[6] params (JSON)    ARGV[7] head of the snapshot (JSON, no braces)
-- ARGV[8] plan: the first fragment of the snapshot (JSON, no braces)
-- ARGV[9] callback URL     ARGV[10] delay [s]     ARGV[11] most waiting tasks a user, 0: any
-- Reply: the task, or "full". Repeated with the same task id it changes nothing.
local t = load_task(ARGV[3])
if t then return reply(t) end
if not has_room(ARGV[4], 1, tonumber(ARGV[11])) then return 'full' end
local run_at = NOW + tonumber(ARGV[10])
return reply(add_task(ARGV[3], ARGV[4], ARGV[5], ARGV[6], '', ARGV[7], ARGV[8], ARGV[9], run_at))
