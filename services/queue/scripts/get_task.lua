-- Uses: reply
--
-- Read one task.
--
-- ARGV[3] task id
-- Reply: the task, or nil.
local t = load_task(ARGV[3])
return t and reply(t)
