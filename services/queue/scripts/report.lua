-- Uses: moves
--
-- Keep and publish the progress of a running attempt.
--
-- ARGV[3] task id          ARGV[4] token
-- ARGV[5] fragment of the snapshot (JSON, no braces)    ARGV[6] percentage
-- Reply: 1, or 0 when the token is not the one of the running attempt. Progress never goes
-- backwards within an attempt: an older report changes nothing, nor does one of no percentage.
local t = load_task(ARGV[3])
if not t or t.status ~= 'processing' or t.token ~= ARGV[4] then return 0 end
local before, percent = tonumber(t.percent), tonumber(ARGV[6])
if not (percent >= before and percent <= 100) or ARGV[5] == t.fragment then return 1 end
keep_told(t)
set(t, 'fragment', ARGV[5], 'percent', ARGV[6])
emit_progress(t)
follow_in_batch(t, 'processing', before)
return 1
