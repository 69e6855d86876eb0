-- Uses: always, moves
--
-- Cancel waiting tasks, or delete ended ones.
--
-- status: "queued", "delayed" or an end     kind, user: only of these, "": of any
-- after: where an earlier purge ended, "": from the beginning
-- most: how many are looked at, at most     kept: ended tasks kept a user, 0: any
-- Reply: {how many, where to go on, "" when there is nothing more}.
--
-- It goes on by scores, for ranks move while others start and end tasks. Of tasks that wait no two have the same
-- one; of others many may, so some of the first are passed over.
most_ended = A.kept
local found, following = {}, ''
local place, number = string.match(A.after, '^(.*)/(.*)$')

local function look(zset, from, passed)
  local flat = redis.call('ZRANGEBYSCORE', P .. zset, from, '+inf', 'WITHSCORES', 'LIMIT', passed, A.most - #found)
  for i = 1, #flat, 2 do found[#found + 1] = {flat[i], flat[i + 1]} end
end

local purged = 0
-- Returns whether it is one of those that are meant.
local function purge(id)
  local t = load_task(id)
  if not t or t.status ~= A.status or (A.kind ~= '' and t.kind ~= A.kind) or (A.user ~= '' and t.user_id ~= A.user) then
    return false
  end
  if ENDED[t.status] then delete_task(t) else cancel(t, pair('purge', '')) end
  purged = purged + 1
  return true
end

if A.status == 'queued' then
  local lines = redis.call('HKEYS', P .. 'queued')
  table.sort(lines)
  for _, line in ipairs(lines) do
    local meant = (not place or line >= place) and (A.kind == '' or kind_of(line) == A.kind)
    if meant and #found < A.most then
      look('waiting:' .. line, line == place and '(' .. number or '-inf', 0)
      if #found > 0 then following = line .. '/' .. found[#found][2] end
    end
  end
  for _, one in ipairs(found) do purge(one[1]) end
else
  local zset = (A.status == 'delayed' or A.status == 'dead') and A.status or 'ended'
  look(zset, place or '-inf', number or 0)
  local last, passed = place, tonumber(number or 0)
  for _, one in ipairs(found) do
    if one[2] ~= last then last, passed = one[2], 0 end
    if not purge(one[1]) then passed = passed + 1 end
  end
  following = string.format('%s/%d', last or '', passed)
end
return {purged, #found == A.most and following or ''}
