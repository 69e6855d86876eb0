-- Uses: moves, essential
--
-- Delete a dead task.
--
-- ARGV[3] task id
-- Reply: 1, or 0 when there is no dead one of this id.
local t = load_task(ARGV[3])
if not t or t.status ~= 'dead' then return 0 end
delete_task(t)
return 1
