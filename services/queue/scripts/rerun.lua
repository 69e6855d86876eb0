-- Uses: moves, reply
--
-- Put a task that failed, died or was cancelled back into the line, with all its attempts before it.
--
-- id    user: who may, "": anybody
-- Reply: the task; nil when there is none of this user; its state when it cannot be run again.
local t = load_task(A.id)
if not t or (A.user ~= '' and t.user_id ~= A.user) then return false end
if not ENDED[t.status] or t.status == 'completed' then return t.status end
run_again(t)
return reply(t)
