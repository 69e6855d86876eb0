-- Uses: reply, why
--
-- Read tasks of a user, or of a batch, the newest first.
--
-- user     batch: its id, "": of the user       before: a number of submission, nil: from the newest
-- kind, statuses: only such, "" and {}: any     since, till: only those made then [s since 1970], nil: any
-- most: how many at most     looked: how many are looked at, at most
-- Reply: {the tasks, where the list goes on or ""}.
local wanted = {}
for _, status in ipairs(A.statuses) do wanted[status] = true end
local function fits(t)
  return (A.kind == '' or t.kind == A.kind) and (#A.statuses == 0 or wanted[t.status])
    and (A.batch == '' or t.batch_id == A.batch)
    and (not A.since or tonumber(t.created_at) >= A.since)
    and (not A.till or tonumber(t.created_at) < A.till)
end
local function full_reply(t)
  local flat = reply(t)
  put(flat, 'waiting_for', waiting_for(t))
  put(flat, 'seq', t.seq)
  return flat
end

local tasks, last = {}, ''
local newest = A.before and '(' .. string.format('%.0f', A.before) or '+inf'
local ids = redis.call('ZREVRANGEBYSCORE', P .. 'tasks:' .. A.user, newest, '-inf', 'WITHSCORES', 'LIMIT', 0, A.looked)
for i = 1, #ids, 2 do
  if #tasks == A.most then return {tasks, last} end
  last = ids[i + 1]
  local t = load_task(ids[i])
  if t and fits(t) then tasks[#tasks + 1] = full_reply(t) end
end
return {tasks, #ids == 2 * A.looked and last or ''}
