-- From version 3 to 4: a task has a kind, a priority and a key, and what no script reads of it is one blob; its
-- snapshots name their plan by digest and mark its steps; the line is one for each kind and priority. All
-- tasks of before are of the kind "analysis".
--
-- KEYS[1] the prefix of all keys       ARGV[1] digests of plans by their names (JSON)
-- ARGV[2...] names of tasks and batches, or "finish" when all are done
-- Harmless when repeated: what has the new layout was changed.
local P, DIGESTS = KEYS[1], cjson.decode(ARGV[1])
local KIND, LEVEL, ATTEMPTS, OLD_FIELDS = 'analysis', '2', '3', 11
local LINE = LEVEL .. KIND

-- One letter for each step: completed, running or pending.
local function marks_of(text)
  local at, total = string.match(text, '"current_step":(%d+)'), string.match(text, '"total_steps":(%d+)')
  if not at or not total then return '' end
  at, total = tonumber(at), math.min(tonumber(total), 1000)
  if string.find(text, '"progress":100.0', 1, true) then return string.rep('c', total) end
  local here = string.find(text, '"message":"Waiting"', 1, true) and 'p' or 'r'
  return string.rep('c', at) .. here .. string.rep('p', total - at - 1)
end

-- A snapshot, or a part of one, with its plan by digest.
local function with_digest(text)
  local name = text and string.match(text, '"plan":"([a-z,]+:%d+)"')
  if not name then return text end
  local digest = DIGESTS[name]
  local old, new = '"plan":"' .. name .. '"', '"plan":' .. (digest and '"' .. digest .. '"' or 'null')
  local first, last = string.find(text, old, 1, true)
  new = new .. ',"marks":"' .. (digest and marks_of(text) or '') .. '"'
  return string.sub(text, 1, first - 1) .. new .. string.sub(text, last + 1)
end

local function digest_of(text)
  local name = text and string.match(text, '"plan":"([a-z,]+:%d+)"')
  return name and DIGESTS[name] or ''
end

local function job_of(symbol, params, callback_url)
  local label = cjson.encode(symbol)
  local inner = string.match(params, '^%s*{(.*)}%s*$') or ''
  local job = '{"label":' .. label .. ',"params":{"symbol":' .. label
  if string.find(inner, '%S') then job = job .. ',' .. inner end
  job = job .. '}'
  if callback_url ~= '' then job = job .. ',"callback_url":' .. cjson.encode(callback_url) end
  return job .. '}'
end

local function change_log(name)
  local log = P .. 'log:' .. name
  for i, message in ipairs(redis.call('LRANGE', log, 0, -1)) do
    local changed = with_digest(message)
    if changed ~= message then redis.call('LSET', log, i - 1, changed) end
  end
end

local function change_task(name)
  local key = P .. name
  if redis.call('TYPE', key).ok ~= 'hash' then return end
  local record = redis.call('HMGET', key, 'made', 'fragment')
  local readable, made = pcall(cmsgpack.unpack, record[1])
  if not readable or type(made) ~= 'table' or #made ~= OLD_FIELDS then return end
  local user, batch, symbol, params, created_at, callback_url, notify, seq, expected, head, plan = unpack(made)
  local digest = digest_of(plan)
  local told = (batch == '' or notify == '1') and '1' or '0'
  head = head .. ',"kind":"' .. KIND .. '","label":' .. cjson.encode(symbol)
  redis.call('HSET', key, 'made', cmsgpack.pack({user, batch, created_at, seq, KIND, LEVEL, '', ATTEMPTS, expected,
    told, '', digest, head, with_digest(plan), job_of(symbol, params, callback_url)}))
  if record[2] and record[2] ~= '' then redis.call('HSET', key, 'fragment', with_digest(record[2])) end
  if digest ~= '' then redis.call('HINCRBY', P .. 'plan_uses', digest, 1) end
  redis.call('ZADD', P .. 'tasks:', seq, string.sub(name, 6))
  change_log(name)
end

local function change_batch(name)
  local key = P .. name
  if redis.call('TYPE', key).ok ~= 'hash' then return end
  local record = redis.call('HMGET', key, 'head', 'kind')
  if not record[1] or record[2] then return end
  redis.call('HSET', key, 'kind', KIND, 'head', record[1] .. ',"kind":"' .. KIND .. '"')
end

-- Put all that waits into the line of its kind.
local function change_line()
  if redis.call('TYPE', P .. 'waiting').ok ~= 'zset' then return end
  local waiting = redis.call('ZRANGE', P .. 'waiting', 0, -1, 'WITHSCORES')
  local order = redis.call('HGET', P .. 'config', 'order')
  local turns = redis.call('ZRANGE', P .. 'ready', 0, -1)
  local owners, known = {}, {}
  for i = 1, #waiting, 2 do
    local readable, made = pcall(cmsgpack.unpack, redis.call('HGET', P .. 'task:' .. waiting[i], 'made'))
    local user = readable and type(made) == 'table' and made[1]
    owners[waiting[i]] = user
    if user then known[user] = true end
  end
  redis.call('DEL', P .. 'waiting', P .. 'ready', P .. 'parked')
  for user in pairs(known) do redis.call('DEL', P .. 'waiting:' .. user) end
  for _, user in ipairs(turns) do redis.call('DEL', P .. 'waiting:' .. user) end
  for i = 1, #waiting, 2 do
    local id, seq, user = waiting[i], waiting[i + 1], owners[waiting[i]]
    if user then
      redis.call('ZADD', P .. 'waiting:' .. LINE, seq, id)
      redis.call('ZADD', P .. 'line:' .. LINE .. ':' .. user, seq, id)
      redis.call('HINCRBY', P .. 'queued', LINE, 1)
      redis.call('HINCRBY', P .. 'waiting_of', user, 1)
    end
  end
  for user in pairs(known) do
    local head = redis.call('ZRANGE', P .. 'line:' .. LINE .. ':' .. user, 0, 0, 'WITHSCORES')[2]
    if head then
      local turn = order == 'fair' and redis.call('INCR', P .. 'turn') or head
      redis.call('ZADD', P .. 'ready:' .. LINE, turn, user)
    end
  end
end

local function change_counts()
  local active = redis.call('HGETALL', P .. 'active')
  for i = 1, #active, 2 do redis.call('HSET', P .. 'active_of', KIND .. '\n' .. active[i], active[i + 1]) end
  local running = redis.call('ZCARD', P .. 'processing')
  if running > 0 then redis.call('HSET', P .. 'running', KIND, running) end
  local seconds = redis.call('HGET', P .. 'pace', 'seconds')
  if seconds then
    redis.call('HSET', P .. 'pace', KIND, seconds)
    redis.call('HDEL', P .. 'pace', 'seconds')
  end
  redis.call('DEL', P .. 'config', P .. 'positions:seen', P .. 'recount')
end

if ARGV[2] == 'finish' then
  change_line()
  change_counts()
  return
end
for i = 2, #ARGV do
  if string.sub(ARGV[i], 1, 5) == 'task:' then change_task(ARGV[i]) else change_batch(ARGV[i]) end
end
