-- Uses: reply, why
--
-- Read one task.
--
-- id
-- Reply: the task, and what holds it back; or nil.
local t = load_task(A.id)
if not t then return false end
local flat = reply(t)
put(flat, 'waiting_for', waiting_for(t))
return flat
