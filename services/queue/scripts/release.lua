-- Uses: always, moves
--
-- Hand a claimed task back unfinished; the attempt does not count, but its time does.
--
-- id, token
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = load_task(A.id)
if t and A.token ~= '' and t.closed == A.token then return 1 end
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
note_use(t, NOW)
journal(t, 'handed_back', t.worker_id or '')
requeue(t, tonumber(t.attempt) - 1, NOW, A.token)
return 1
