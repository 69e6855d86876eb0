-- Uses: events, line, rates, iso
--
-- A task and what is told of it.
--
-- Invariant: a task is in exactly one state, and in exactly the structures of that state:
-- queued: the line; delayed: `delayed`; processing: `processing` and the user's `active` count;
-- completed, failed, cancelled, dead: `ended` and `counts`.
-- `processing` also counts in `active_of`, `running` and, with a key, `keys`.

local ENDED = {completed = true, failed = true, cancelled = true, dead = true}
local WAITS = {queued = true, delayed = true}

local STATES = {queued = true, delayed = true, processing = true, completed = true, failed = true,
  cancelled = true, dead = true}

-- What is known when a task is made, each as text. `job` is Python's alone. Only the batch can change, when
-- the task is run again after the end of its batch.
local MADE = {'user_id', 'batch_id', 'created_at', 'seq', 'kind', 'level', 'key', 'max_attempts', 'expected',
  'notify', 'unique', 'plan', 'head', 'first', 'job'}
local MADE_FIELDS = #MADE
-- What every transition reads of a task.
local CORE = {'made', 'token', 'closed', 'attempt', 'percent', 'event_seq', 'logged'}
-- `AT`: the places of these fields.
local TASK, AT = kind_of_record({
  token = '', closed = '', attempt = '0', percent = '0', event_seq = '1',
  logged = '1', revived = '0', fragment = '', result = '', error = '', started_at = '', used = '',
  ended_at = '', since = '', attempts = '', plans = '', kept = '', state = '',
}, MADE, {line = function(t) return t.level .. t.kind end})

local read_made
do
  local ARRAY_16 = 0xdc
  -- Reading them into variables costs less than a table that grows.
  local function unpack_made(packed)
    local first = string.byte(packed) == ARRAY_16 and 3 or 1
    local _, user, batch, created, seq, kind, level, key, attempts, expected, notify, unique, plan, head,
      fragment, job = cmsgpack.unpack_limit(packed, MADE_FIELDS, first)
    -- Lua raises an error when it compares text with anything else.
    if user < '' or batch < '' or created < '' or seq < '' or kind < '' or level < '' or key < '' or attempts < ''
        or expected < '' or notify < '' or unique < '' or plan < '' or head < '' or fragment < '' or job < '' then
      return nil
    end
    return {user, batch, created, seq, kind, level, key, attempts, expected, notify, unique, plan, head, fragment, job}
  end

  -- The values of the fields of MADE, nil when they cannot be read. A later version may keep more behind them.
  function read_made(packed)
    local readable, values = pcall(unpack_made, packed)
    return readable and values or nil
  end
end

local function is_percentage(value)
  local share = value == '0' and 0 or tonumber(value)
  return share and share >= 0 and share <= 100
end

-- nil when there is none, or when the fields cannot be read that decide where it goes next.
local function load_task(id)
  local key = task_key(id)
  local t = records[key]
  if t then return t end
  t = load(key, CORE, TASK)
  if not t then return nil end
  t[PACKED] = read_made(t.made) or false
  -- The numbers are text.
  if not (STATES[t.status] and t[PACKED] and tonumber(t.created_at) and tonumber(t.seq) and tonumber(t.expected)
      and is_whole(t.max_attempts) and string.find(t.level, '^[0-4]$') and is_whole(t.attempt)
      and is_whole(t.event_seq) and is_whole(t.logged) and is_percentage(t.percent)) then
    records[key] = nil
    return nil
  end
  t.task_id, t.user_id, t.batch_id, t.kind, t.key = id, t.user_id, t.batch_id, t.kind, t.key
  return t
end

-- How long the attempts took since the task was begun anew [s]. An earlier version has kept no sum: then it is
-- that of the attempts that are kept, up to one that was the end of the task.
local FOLLOWED = {error = true, retry = true, lost = true}
local function used_seconds(t)
  if t.used ~= '' then return tonumber(t.used) or 0 end
  local sum, readable, list = 0, pcall(cmsgpack.unpack, t.attempts)
  if not readable or type(list) ~= 'table' then return 0 end
  for i = #list, 1, -1 do
    local started, ended, outcome = tonumber(list[i][2]), tonumber(list[i][3]), list[i][4]
    if not FOLLOWED[outcome] then break end
    if started and ended then sum = sum + math.max(ended - started, 0) end
  end
  return sum
end

-- The mean time that a task of a kind takes, in seconds; nil until one has ended. Read once.
local pace = {}
local function mean_seconds(kind)
  if pace[kind] == nil then
    pace[kind] = tonumber(redis.call('HGET', P .. 'pace', kind) or '') or false
  end
  return pace[kind] or nil
end

-- Tasks that are no longer claimed, to be taken out of `processing` at once.
local left = {}

-- The limits of a kind, and whether it is paused: the same for all its waiting tasks. Read once.
local held_by = {}
local function holds(kind)
  if not held_by[kind] then
    local paused = redis.call('SMISMEMBER', P .. 'paused', '', kind)
    held_by[kind] = read_limits(redis.call('HGET', P .. 'limits', kind))
    held_by[kind].paused = paused[1] == 1 or paused[2] == 1
  end
  return held_by[kind]
end

local starts_in, last_error
do
  -- In how many seconds the n-th start from now has its token.
  local function seconds_to_start(name, rate, since, n)
    return time_when_full(name, rate, since) - NOW + n * rate[2] / rate[1] - rate[2]
  end

  -- In how many seconds a task at this place of the line may start: what is before it, at the mean time, over
  -- as many of its kind as run now; and when the rates have a token for it. Until one has ended, what the enqueuer
  -- expects. nil while it is paused.
  function starts_in(t, here)
    local own = holds(t.kind)
    if own.paused then return nil end
    local mean = mean_seconds(t.kind) or tonumber(t.expected)
    local seconds = mean * (here - 0.5) / math.max(counted('running', t.kind), 1)
    if own.rate then seconds = math.max(seconds, seconds_to_start(t.kind, own.rate, own.rate_since, here)) end
    if own.key_rate and t.key ~= '' then
      local rank = redis.call('ZRANK', lane_of(t.line, t.user_id, t.key), t.task_id) or 0
      seconds = math.max(seconds, seconds_to_start(pair(t.kind, t.key), own.key_rate, own.key_rate_since, rank + 1))
    end
    return seconds
  end

  -- Why a task waits for another attempt, as a part of its JSON object. A reason that was cut may end within a
  -- character.
  local CUT = {'[\192-\255]$', '[\224-\255][\128-\191]$', '[\240-\255][\128-\191][\128-\191]$'}
  function last_error(t)
    local readable, list = pcall(cmsgpack.unpack, t.attempts)
    local last = readable and type(list) == 'table' and list[#list]
    local reason = last and last[5] or ''
    if reason == '' then return '' end
    for _, rest in ipairs(CUT) do reason = string.gsub(reason, rest, '') end
    return '"error":' .. cjson.encode(reason) .. ','
  end
end

-- Since when a running task gives no sign of life: its lease has run out, and nobody has taken it back yet.
local function silence(t)
  local lease = tonumber(redis.call('ZSCORE', P .. 'processing', t.task_id) or '')
  local ended = lease and lease * LEASE_UNIT
  return ended and ended < NOW and '"stalled_since":"' .. iso(ended) .. '",' or ''
end

-- The inside of its JSON object in two parts, what is its own and the fragment; and its position.
local function snapshot(t)
  local place, here = '', nil
  if t.status == 'queued' then
    here = position(t.task_id, t.line)
    if here then
      local seconds = starts_in(t, here)
      place = string.format('"position":%d,', here)
      if seconds then place = place .. string.format('"starts_in":%.1f,', seconds) end
    end
  elseif t.status == 'delayed' then
    local due = redis.call('ZSCORE', P .. 'delayed', t.task_id)
    if due then place = '"run_at":"' .. iso(due) .. '",' end
  end
  if t.status == 'processing' then place = silence(t) end
  if WAITS[t.status] and t.attempt ~= '0' then place = place .. last_error(t) end
  local head = t.head .. ',"status":"' .. t.status .. '","attempt":' .. t.attempt .. ',' .. place
  return head, t.fragment == '' and t.first or t.fragment, here
end

local function emit_progress(t)
  emit('task', t.task_id, t, 'progress', snapshot(t))
end

-- The inside of the JSON object of its `finished`.
local function task_end(t)
  local data = '"task_id":"' .. t.task_id .. '","final_status":"' .. t.status .. '"'
  if t.result ~= '' then data = data .. ',"result":' .. t.result end
  if t.error ~= '' then data = data .. ',"error":' .. cjson.encode(t.error) end
  return data
end

-- The events behind its log: the start of an attempt that has not reported, and then of an ended task
-- its last state and its end.
local function told(t)
  local last, ended, messages = tonumber(t.event_seq), ENDED[t.status], {}
  local start = ended and last - 2 or last
  if tonumber(t.logged) < start then
    local head = t.head .. ',"status":"processing","attempt":' .. t.attempt .. ','
    messages[1] = envelope('progress', start, head, t.first)
  end
  if ended then
    local head, fragment = snapshot(t)
    messages[#messages + 1] = envelope('progress', last - 1, head, fragment)
    messages[#messages + 1] = envelope('finished', last, task_end(t))
  end
  return messages
end

-- Log what the record tells, before it is changed and does so no more.
local function keep_told(t)
  local messages = told(t)
  if #messages > 0 then log('task', t.task_id, t, unpack(messages)) end
end
