-- Uses: moves
--
-- Compare every task and batch with the structures that it must be in. Reads everything, while all others wait.
--
-- most: tasks read at most, 0: any number
-- Reply: the violations, as texts; how many tasks there are when these are too many.
local MOST_KEYS = 20
local tasks = redis.call('ZCARD', P .. 'tasks:')
-- To find the tasks is to read the names of all keys.
if A.most > 0 and (tasks > A.most or redis.call('DBSIZE') > MOST_KEYS * A.most) then return tasks end
while sort_in() > 0 do end

local faults = {}
local function fault(text) faults[#faults + 1] = text end
local function expect(text, found, wanted)
  if tostring(found) ~= tostring(wanted) then
    fault(text .. ': ' .. tostring(found) .. ' instead of ' .. tostring(wanted))
  end
end
local function add(counts, field, by) counts[field] = (counts[field] or 0) + by end
local function found_in(zset, id) return redis.call('ZSCORE', P .. zset, id) and 1 or 0 end

-- A hash as it is kept; nil when there is none.
local function read_hash(key)
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

local all_listed = redis.call('ZCARD', P .. 'ended') == tonumber(redis.call('GET', P .. 'listed') or 0)
local own = {ended = {}, dead = {}}
local broken = redis.call('SMEMBERS', P .. 'broken')
for _, id in ipairs(broken) do fault('task ' .. id .. ' cannot be read and was set aside') end

local states, batches, lanes, own_lines = {}, {}, {}, {}
local sums = {active = {}, active_of = {}, running = {}, keys = {}, aside = {}, queued = {}, waiting_of = {}, plan_uses = {}}

local function look_at_line(t, id)
  local line, lane = t.level .. t.kind, nil
  local own = P .. 'line:' .. line .. ':' .. t.user_id
  add(sums.queued, line, 1)
  add(sums.waiting_of, t.user_id, 1)
  if t.key == '' then
    expect('own line of ' .. id, redis.call('ZSCORE', own, id) and 1 or 0, 1)
  else
    lane = lane_of(line, t.user_id, t.key)
    expect('lane of ' .. id, redis.call('ZSCORE', lane, id) and 1 or 0, 1)
    lanes[lane] = {line = line, user = t.user_id, key = t.key, kind = t.kind, level = t.level}
  end
  own_lines[pair(line, t.user_id)] = true
end

-- The index of a task: it is in no state but that it has ended with.
local function look_at_terms(t, id)
  local key, offset = found_key(math.floor(t.seq / BLOCK)), t.seq % BLOCK
  local function is_in(term) return has_offset(redis.call('HGET', key, term), offset) end
  -- An earlier version made it, and it is not there yet.
  if not is_in('a') then return end
  for _, term in ipairs(terms_of(t.user_id, t.kind, '')) do
    if not is_in(term) then fault('task ' .. id .. ' is not found by ' .. term) end
  end
  for state in pairs(ENDED) do expect('found as ' .. state .. ' of ' .. id, is_in('s' .. state), t.status == state) end
end

local function look_at(id)
  local t, status = read_hash(task_key(id)), nil
  for i, value in ipairs(cmsgpack.unpack(t.made)) do t[MADE[i] or i] = value end
  status = t.status
  local last, logged = tonumber(t.event_seq or 1), tonumber(t.logged or 1)
  add(states, status, 1)
  expect('waiting of ' .. id, found_in('waiting:' .. t.level .. t.kind, id), status == 'queued' and 1 or 0)
  expect('processing of ' .. id, found_in('processing', id), status == 'processing' and 1 or 0)
  expect('delayed of ' .. id, found_in('delayed', id), status == 'delayed' and 1 or 0)
  expect('ended of ' .. id, found_in('ended', id), ENDED[status] and 1 or 0)
  expect('dead of ' .. id, found_in('dead', id), status == 'dead' and 1 or 0)
  expect('listed of ' .. id, found_in('tasks:' .. t.user_id, id), 1)
  expect('listed among all of ' .. id, found_in('tasks:', id), 1)
  if status == 'queued' then look_at_line(t, id) end
  look_at_terms(t, id)
  if t.plan ~= '' then add(sums.plan_uses, t.plan, 1) end
  for digest in string.gmatch(t.plans or '', '%S+') do add(sums.plan_uses, digest, 1) end
  if ENDED[status] then
    add(own[list_of(status)], t.user_id, 1)
    if all_listed then
      expect('ended list of ' .. id, found_in(list_of(status) .. ':' .. t.user_id, id), 1)
    end
  end
  -- Facts that the record tells itself: the start of its attempt, its last state, its end.
  local told = last - logged - (ENDED[status] and 2 or 0)
  if told ~= 0 and (told ~= 1 or status == 'queued' or status == 'delayed') then
    fault('log of ' .. id .. ' ends at ' .. logged .. ' of ' .. last)
  end
  local kept = redis.call('LLEN', log_key('task', id))
  if kept > logged - 1 or (kept == 0 and logged > 1 and not ENDED[status]) then
    fault('log of ' .. id .. ' has ' .. kept .. ' events up to ' .. logged)
  end
  if ENDED[status] and redis.call('EXISTS', asked_key(id)) == 1 then fault('ended task ' .. id .. ' asks') end
  if status == 'delayed' then add(sums.aside, t.user_id, 1) end
  if status == 'processing' then
    add(sums.active, t.user_id, 1)
    add(sums.active_of, pair(t.kind, t.user_id), 1)
    add(sums.running, t.kind, 1)
    if t.key ~= '' then add(sums.keys, pair(t.kind, t.key), 1) end
  end
  if t.batch_id ~= '' then
    batches[t.batch_id] = batches[t.batch_id] or {sum = 0}
    add(batches[t.batch_id], in_batch(status), 1)
    add(batches[t.batch_id], 'sum', ENDED[status] and 100 or tonumber(t.percent or 0))
  end
end

for _, key in ipairs(redis.call('KEYS', P .. 'task:*')) do
  local id = string.sub(key, #task_key('') + 1)
  if load_task(id) then
    look_at(id)
  elseif redis.call('SISMEMBER', P .. 'broken', id) == 0 then
    fault('task ' .. id .. ' cannot be read')
  end
end
for list, users in pairs(own) do
  for user, number in pairs(users) do
    -- There may be more: an earlier version deletes a task and leaves its place in the list.
    local places = redis.call('ZCARD', P .. list .. ':' .. user)
    if all_listed and places < number then expect(list .. ' of ' .. user, places, number) end
  end
end

local function compare(hash, counts)
  local kept = read_hash(P .. hash) or {}
  for field, number in pairs(counts) do expect(hash .. ' of ' .. field, kept[field], number) end
  for field, number in pairs(kept) do expect(hash .. ' of ' .. field, number, counts[field]) end
end
for hash, counts in pairs(sums) do compare(hash, counts) end
local ended = {}
for status in pairs(ENDED) do ended[status] = states[status] end
compare('counts', ended)
for zset, status in pairs({processing = 'processing', delayed = 'delayed'}) do
  expect('size of ' .. zset, redis.call('ZCARD', P .. zset), states[status] or 0)
end
for line, number in pairs(sums.queued) do
  expect('size of ' .. line, redis.call('ZCARD', P .. 'waiting:' .. line), number)
end

local blocks, holds = {}, {}
for _, lane in pairs(lanes) do
  local both = pair(lane.kind, lane.key)
  local held = redis.call('ZSCORE', P .. 'held:' .. both, pair(lane.level, lane.user))
  local entry = redis.call('ZSCORE', P .. 'line:' .. lane.line .. ':' .. lane.user, MARK .. lane.key)
  local head = redis.call('ZRANGE', lane_of(lane.line, lane.user, lane.key), 0, 0, 'WITHSCORES')[2]
  expect('places of the lane of ' .. lane.user, (held and 1 or 0) + (entry and 1 or 0), 1)
  if entry or order() == 'fifo' then
    expect('place of the lane of ' .. lane.user, held and held - lane.level * PER_LEVEL or entry, head)
  end
  if held then
    add(holds, both, 1)
    add(blocks, lane.line, 1)
  end
end
compare('held', holds)

-- Number of users of each line who have a turn.
local users = {}
for both in pairs(own_lines) do
  local line, user = split(both)
  local entries = redis.call('ZCARD', P .. 'line:' .. line .. ':' .. user)
  local parked = redis.call('SISMEMBER', P .. 'parked:' .. user, line)
  if parked == 1 then add(blocks, line, 1) end
  local places = found_in('ready:' .. line, user)
  expect('turn of ' .. user .. ' in ' .. line, places + parked, entries > 0 and 1 or 0)
  add(users, line, places)
end
for line in pairs(sums.queued) do
  expect('users in line ' .. line, redis.call('ZCARD', P .. 'ready:' .. line), users[line] or 0)
end
compare('blocked', blocks)

for id, counts in pairs(batches) do
  local b = read_hash(batch_key(id))
  local all = redis.call('LRANGE', P .. 'batch_tasks:' .. id, 0, -1)
  local kept = 0
  for _, task_id in ipairs(all) do kept = kept + redis.call('EXISTS', task_key(task_id)) end
  if b and kept == tonumber(b.total) then
    for _, state in ipairs(COUNTED) do
      expect(state .. ' of ' .. id, b[state] or 0, counts[state] or 0)
    end
    if math.abs(tonumber(b.progress_sum) - counts.sum) > 0.01 then
      fault('progress of ' .. id .. ': ' .. b.progress_sum .. ' instead of ' .. counts.sum)
    end
    expect('status of ' .. id, b.status, batch_status(b))
  end
end
return faults
