-- Uses: always, moves
--
-- Hand a claimed task back unfinished; the attempt does not count.
--
-- ARGV[3] task id          ARGV[4] token
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = load_task(ARGV[3])
if t and ARGV[4] ~= '' and t.closed == ARGV[4] then return 1 end
if not t or t.status ~= 'processing' or t.token ~= ARGV[4] then return 0 end
requeue(t, tonumber(t.attempt) - 1, NOW, ARGV[4])
return 1
