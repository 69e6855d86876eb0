-- Uses: task
--
-- Read the kinds, and how each stands.
--
-- Reply: {time, {name, entry or "", limits, changed limits, paused, queued, running, oldest or ""} of each kind
-- (those over all kinds under ""), what each worker says}. `oldest` is since when the task waits that has
-- waited for the longest.
local names, known = {''}, {[''] = true}
local function add(kind)
  if known[kind] then return end
  known[kind] = true
  names[#names + 1] = kind
end
for _, kind in ipairs(redis.call('HKEYS', P .. 'kinds')) do add(kind) end
local queued = redis.call('HGETALL', P .. 'queued')
local waiting, oldest = {}, {}
-- A task that came back stands before others that have waited for longer: the first of a line are looked at.
local MOST_LOOKED_AT = 10
local function look_at(kind, id)
  local made, since = unpack(redis.call('HMGET', task_key(id), 'made', 'since'))
  local values = read_made(made)
  local at = tonumber(since or '') or tonumber(values and values[AT.created_at] or '')
  if at and (not oldest[kind] or at < oldest[kind]) then oldest[kind] = at end
end
for i = 1, #queued, 2 do
  local kind = string.sub(queued[i], 2)
  waiting[kind] = (waiting[kind] or 0) + queued[i + 1]
  for _, id in ipairs(redis.call('ZRANGE', P .. 'waiting:' .. queued[i], 0, MOST_LOOKED_AT - 1)) do
    look_at(kind, id)
  end
  add(kind)
end
local running = redis.call('HGETALL', P .. 'running')
local runs = {}
for i = 1, #running, 2 do
  runs[running[i]] = running[i + 1]
  add(running[i])
end
local reply = {}
for i, name in ipairs(names) do
  reply[i] = {name, redis.call('HGET', P .. 'kinds', name) or '', redis.call('HGET', P .. 'limits', name) or '',
    redis.call('HGET', P .. 'changed_limits', name) or '', redis.call('SISMEMBER', P .. 'paused', name),
    waiting[name] or 0, tonumber(runs[name] or 0), oldest[name] and stamp(oldest[name]) or ''}
end
return {NOW_STAMP, reply, redis.call('HVALS', P .. 'workers')}
