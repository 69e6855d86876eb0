-- Uses: moves
--
-- Have tasks that failed or are dead deleted later, by upkeep.
--
-- ids     seconds: how much later
-- Reply: the ids of those that will be.
local taken, flat = {}, {}
for _, id in ipairs(A.ids) do
  local t = load_task(id)
  if t and (t.status == 'failed' or t.status == 'dead') then
    taken[#taken + 1] = id
    put(flat, stamp(NOW + A.seconds), id)
  end
end
call_in_parts('ZADD', P .. 'discarding', flat)
if #taken > 0 then announce_due(NOW + A.seconds) end
return taken
