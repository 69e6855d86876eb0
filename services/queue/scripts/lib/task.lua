-- Uses: events, line, iso, made, starts
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

-- Fields of a task that every transition reads.
local CORE = {'made', 'token', 'closed', 'attempt', 'percent', 'event_seq', 'logged'}
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

-- Time that the attempts took since the task was begun anew [s]. An earlier version has kept no
-- sum: then it is that of the attempts that are kept, up to one that was the end of the task.
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

-- Tasks that are no longer claimed, to be taken out of `processing` at once.
local left = {}

local last_error
do
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

-- When a waiting task starts, as a part of its JSON object: the median, and the 10th and 90th percentile [s]. A worker
-- needs a moment to take it.
local function starts_in(t)
  local MOMENT = 0.1
  local found = forecast.get().start(t)
  if not found then return '' end
  local low, middle, high = forecast.get().samples.band_of(found)
  return string.format('"starts_in":%.1f,"starts_in_low":%.1f,"starts_in_high":%.1f,', middle,
    math.floor(low * 10) / 10, math.ceil(high * 10) / 10 + MOMENT)
end

-- Since when a running task gives no sign of life: its lease has run out, and nobody has taken it back yet.
local function silence(t)
  local lease = tonumber(redis.call('ZSCORE', P .. 'processing', t.task_id) or '')
  local ended = lease and lease * LEASE_UNIT
  return ended and ended < NOW and '"stalled_since":"' .. iso(ended) .. '",' or ''
end

-- The inside of its JSON object in two parts, what is its own and the fragment; and its position. When it starts is not
-- looked for when nobody hears it.
local function snapshot(t, is_unheard)
  local place, here = '', nil
  if t.status == 'queued' then
    here = position(t.task_id, t.line)
    if here then
      place = string.format('"position":%d,', here) .. (is_unheard and '' or starts_in(t))
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
  emit('task', t.task_id, t, 'progress', snapshot(t, not is_heard('task', t.task_id)))
end

-- The inside of the JSON object of its `finished`.
local function task_end(t)
  local data = locale_of(t) .. '"task_id":"' .. t.task_id .. '","final_status":"' .. t.status .. '"'
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
