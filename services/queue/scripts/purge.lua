-- Uses: always, moves
--
-- Cancel waiting tasks, or delete ended ones.
--
-- status: "queued", "delayed" or an end     kind, user: only of these, "": of any
-- passed: how many to pass over             most: how many are looked at, at most
-- kept: ended tasks kept a user, 0: any
-- Reply: {how many, how many were passed over that stay, 1 when there may be more else 0}.
most_ended = A.kept
local found = {}
if A.status == 'queued' then
  local lines = redis.call('HKEYS', P .. 'queued')
  table.sort(lines)
  local passed = A.passed
  for _, line in ipairs(lines) do
    if #found < A.most and (A.kind == '' or string.sub(line, 2) == A.kind) then
      for _, id in ipairs(redis.call('ZRANGE', P .. 'waiting:' .. line, passed, passed + A.most - #found - 1)) do
        found[#found + 1] = id
      end
      passed = math.max(passed - redis.call('ZCARD', P .. 'waiting:' .. line), 0)
    end
  end
else
  local zset = (A.status == 'delayed' or A.status == 'dead') and A.status or 'ended'
  found = redis.call('ZRANGE', P .. zset, A.passed, A.passed + A.most - 1)
end
local purged, stay = 0, 0
for _, id in ipairs(found) do
  local t = load_task(id)
  if t and t.status == A.status and (A.kind == '' or t.kind == A.kind) and (A.user == '' or t.user_id == A.user) then
    if ENDED[t.status] then delete_task(t) else cancel(t) end
    purged = purged + 1
  else
    stay = stay + 1
  end
end
return {purged, stay, #found == A.most and 1 or 0}
