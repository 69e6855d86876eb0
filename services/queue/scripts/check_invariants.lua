-- Uses: moves
--
-- Compare every task and batch with the structures that it must be in. Reads everything: for tests
-- and maintenance.
--
-- Reply: the violations, as texts.
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

local states, active, aside, queued, batches = {}, {}, {}, {}, {}
local function look_at(id)
  local t, status = read_hash(task_key(id)), nil
  for i, value in ipairs(cmsgpack.unpack(t.made)) do t[MADE[i] or i] = value end
  status = t.status
  local last, logged = tonumber(t.event_seq or 1), tonumber(t.logged or 1)
  add(states, status, 1)
  expect('waiting of ' .. id, found_in('waiting', id), status == 'queued' and 1 or 0)
  expect('own line of ' .. id, found_in('waiting:' .. t.user_id, id), status == 'queued' and 1 or 0)
  expect('processing of ' .. id, found_in('processing', id), status == 'processing' and 1 or 0)
  expect('delayed of ' .. id, found_in('delayed', id), status == 'delayed' and 1 or 0)
  expect('ended of ' .. id, found_in('ended', id), ENDED[status] and 1 or 0)
  expect('dead of ' .. id, found_in('dead', id), status == 'dead' and 1 or 0)
  expect('listed of ' .. id, found_in('tasks:' .. t.user_id, id), 1)
  if ENDED[status] then
    add(own[list_of(status)], t.user_id, 1)
    if all_listed then
      expect('ended list of ' .. id, found_in(list_of(status) .. ':' .. t.user_id, id), 1)
    end
  end
  -- What the record tells itself: the start of its attempt, its last state, its end.
  local told = last - logged - (ENDED[status] and 2 or 0)
  if told ~= 0 and (told ~= 1 or status == 'queued' or status == 'delayed') then
    fault('log of ' .. id .. ' ends at ' .. logged .. ' of ' .. last)
  end
  local kept = redis.call('LLEN', log_key('task', id))
  if kept > logged - 1 or (kept == 0 and logged > 1 and not ENDED[status]) then
    fault('log of ' .. id .. ' has ' .. kept .. ' events up to ' .. logged)
  end
  if status == 'queued' then add(queued, t.user_id, 1) end
  if status == 'delayed' then add(aside, t.user_id, 1) end
  if status == 'processing' then add(active, t.user_id, 1) end
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
compare('active', active)
compare('aside', aside)
local ended = {}
for status in pairs(ENDED) do ended[status] = states[status] end
compare('counts', ended)
for zset, status in pairs({waiting = 'queued', processing = 'processing', delayed = 'delayed'}) do
  expect('size of ' .. zset, redis.call('ZCARD', P .. zset), states[status] or 0)
end

local users = 0
for user, number in pairs(queued) do
  users = users + 1
  expect('line of ' .. user, redis.call('ZCARD', P .. 'waiting:' .. user), number)
  local places = found_in('ready', user) + redis.call('SISMEMBER', P .. 'parked', user)
  expect('turn of ' .. user, places, 1)
end
expect('users in line', redis.call('ZCARD', P .. 'ready') + redis.call('SCARD', P .. 'parked'), users)

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
