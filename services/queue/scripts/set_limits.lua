-- Uses: always, limits
--
-- Change limits as an admin, until they are dropped.
--
-- name: of a kind, "": over all kinds     changes: by field, nil: drop all that were changed
-- Reply: 1.
if A.changes then
  local changed = unpacked('changed_limits', A.name)
  for field, value in pairs(A.changes) do changed[field] = value end
  redis.call('HSET', P .. 'changed_limits', A.name, cmsgpack.pack(changed))
else
  redis.call('HDEL', P .. 'changed_limits', A.name)
end
apply(A.name)
return 1
