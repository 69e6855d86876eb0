-- Uses: always, moves
--
-- Cancel waiting tasks, or delete ended ones, that are named.
--
-- ids     status: only those in this state     kept: ended tasks kept a user, 0: any
-- Reply: how many.
most_ended = A.kept
local purged = 0
for _, id in ipairs(A.ids) do
  local t = load_task(id)
  if t and t.status == A.status then
    if ENDED[t.status] then delete_task(t) else cancel(t, pair('purge', '')) end
    purged = purged + 1
  end
end
return purged
