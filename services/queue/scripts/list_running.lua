-- Uses: reply
--
-- Read running tasks, the one whose lease ends first first.
--
-- kind, user: only such, "" for any     lease, id: behind which it goes on, nil: from the first
-- most: how many at most     looked: how many are looked at, at most
-- Reply: {for each {the task, its worker, the end of its lease [s]}, {lease, id} where it goes on or {}}.
local from = A.lease and whole(A.lease) or '-inf'
local found = redis.call('ZRANGEBYSCORE', P .. 'processing', from, '+inf', 'WITHSCORES', 'LIMIT', 0, A.looked)
local tasks, place = {}, {}
for i = 1, #found, 2 do
  local id, lease = found[i], found[i + 1]
  -- Those of one lease are in the order of their ids.
  if not (A.lease and tonumber(lease) == A.lease and id <= A.id) then
    if #tasks == A.most then return {tasks, place} end
    place = {lease, id}
    local t = load_task(id)
    if t and t.status == 'processing' and (A.kind == '' or t.kind == A.kind) and (A.user == '' or t.user_id == A.user) then
      tasks[#tasks + 1] = {reply(t), t.worker_id or '', stamp(lease * LEASE_UNIT)}
    end
  end
end
return {tasks, #found == 2 * A.looked and place or {}}
