-- Uses: add, unique, reply
--
-- Put a task that failed, died or was cancelled back into the line, with all its attempts before it.
--
-- id    user: who may, "": anybody    waiting: most waiting tasks of its user, 0: any
-- by: who asks for it (see lib/moves.lua)    run_at: not before this time [s since 1970], 0: at once
-- Reply: the task; nil when there is none of this user; its state when it cannot be run again; "full"; {"unique",
-- id} of the task that has its unique key now. A key for some seconds says nothing of it: it is not submitted anew.
local t = load_task(A.id)
if not t or (A.user ~= '' and t.user_id ~= A.user) then return false end
if not ENDED[t.status] or t.status == 'completed' then return t.status end
local holds = string.find(t.unique, '^[wr]')
local other = holds and holder_of(t.unique)
if other then return {'unique', other.task_id} end
if not has_room(t.user_id, 1, A.waiting) then return 'full' end
if holds then claim_unique(t.unique, t.task_id) end
run_again(t, A.by, A.run_at)
return reply(t)
