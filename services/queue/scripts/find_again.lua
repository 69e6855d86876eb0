-- Uses: moves
--
-- Have tasks found that an earlier version made, and let go of what an earlier version deleted: over some blocks of
-- numbers of submission (lib/found.lua).
--
-- before: a number of submission, nil: from the newest      blocks: how many at most
-- tasks: those whose terms were asked for, each {id, terms}
-- Reply: {{id, job, error} of tasks that are not found, where it goes on or ""}.
sorts_few = true
for _, one in ipairs(A.tasks) do
  local t = load_task(one[1])
  if t then
    note_task(t.seq, t.user_id, t.kind, t.batch_id, one[2])
    for state in pairs(ENDED) do note_state(t.seq, state, t.status == state) end
  end
end
if A.blocks == 0 then return {{}, ''} end

local function newest_below(zset, place, unit)
  local found = redis.call('ZREVRANGEBYSCORE', P .. zset, place, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return found and math.floor(found / unit)
end

-- Make a block anew, without those of its sets that are of tasks that are gone.
local function make_anew(block, is_there)
  local key, kept, gone = found_key(block), {}, {}
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local offsets = {}
    for offset = 0, BLOCK - 1 do
      if is_there[offset] and has_offset(all[i + 1], offset) then offsets[#offsets + 1] = string.char(offset) end
    end
    if #offsets == 0 then
      gone[#gone + 1] = all[i]
    elseif #offsets < BITMAP then
      put(kept, all[i], table.concat(offsets))
    end
  end
  call_in_parts('HDEL', key, gone)
  call_in_parts('HSET', key, kept)
end

local unfound, place = {}, A.before and '(' .. whole(A.before) or '+inf'
for _ = 1, A.blocks do
  local tasks_at, found_at = newest_below('tasks:', place, BLOCK), nil
  local of_found = place == '+inf' and '+inf' or whole(math.floor((tonumber(string.sub(place, 2)) - 1) / BLOCK))
  found_at = newest_below('found', of_found, 1)
  local block = math.max(tasks_at or -1, found_at or -1)
  if block < 0 then
    place = '('
    break
  end
  local first = block * BLOCK
  local members = redis.call('ZRANGEBYSCORE', P .. 'tasks:', whole(first), whole(first + BLOCK - 1), 'WITHSCORES')
  local all, is_there, there = redis.call('HGET', found_key(block), 'a'), {}, 0
  for i = 1, #members, 2 do
    local offset = members[i + 1] % BLOCK
    is_there[offset], there = true, there + 1
    if not has_offset(all, offset) then unfound[#unfound + 1] = members[i] end
  end
  if there == 0 then
    note_gone(first)
  elseif all then
    local known = 0
    for offset = 0, BLOCK - 1 do known = known + (has_offset(all, offset) and 1 or 0) end
    if known > 2 * there then make_anew(block, is_there) end
  end
  place = '(' .. whole(first)
end
local replies = {}
for i, id in ipairs(unfound) do
  local t = load_task(id)
  replies[i] = {id, t and t.job or '', t and t.error or ''}
end
return {replies, string.sub(place, 2)}
