-- Uses: counts, events, iso, batch_rest
--
-- Batches count their tasks.
--
-- Invariant: the counters of a batch equal the states of its tasks (a delayed task counts as
-- queued), `progress_sum` is the sum of their percentages with 100 for an ended one, and the batch
-- has ended exactly when each of its tasks has.

-- Number of ended tasks, dead ones and ended batches that are kept of each user, 0: any, and none
-- are listed. The scripts that end tasks are told.
local most_ended = 0
-- Old ones of a user go with one script at most, besides as many as ended in it: after a bound was
-- lowered the rest goes with the next ones.
local MOST_LET_GO = 200

-- The logs of a user's newest ended tasks and batches are kept. A client that comes back to an older one gets
-- its state: a log is many times as long.
local LOGS_KEPT = 100
local dropped_logs = {}
local function drop_logs(kind, own, size, added)
  local last = size - LOGS_KEPT - 1
  for _, id in ipairs(redis.call('ZRANGE', own, whole(math.max(last - added + 1, 0)), whole(last))) do
    dropped_logs[#dropped_logs + 1] = log_key(kind, id)
  end
end
finishers[#finishers + 1] = function() delete_in_parts(dropped_logs) end

local COUNTED = {'queued', 'processing', 'completed', 'failed', 'cancelled', 'dead'}

local function batch_progress(b)
  return tonumber(b.progress_sum) / tonumber(b.total)
end

local BATCH_FIELDS = {'user_id', 'head', 'total', 'progress_sum', 'event_seq', 'logged', 'queued',
  'processing', 'completed', 'failed', 'cancelled', 'dead'}
local BATCH = kind_of_record({event_seq = '1', logged = '1'}, {}, {})

local function load_batch(id)
  local b = load(batch_key(id), BATCH_FIELDS, BATCH)
  if not b then return nil end
  if not (b.head and tonumber(b.total) and tonumber(b.progress_sum) and is_whole(b.event_seq)) then
    -- It cannot be read: its tasks go on without it.
    records[batch_key(id)] = nil
    return nil
  end
  b.batch_id = id
  return b
end

local GOES_ON = {queued = true, processing = true}

-- The time left of a batch as a part of its JSON object [s]. It is found once a script.
local times_left = {}
local function time_left(b, is_wanted)
  if not GOES_ON[b.status] then return ',"remaining_time":0,"remaining_low":0,"remaining_high":0' end
  local told = times_left[b.batch_id]
  if not told and is_wanted then
    local found = forecast.rest_of_batch(b)
    if found then
      local low, middle, high = forecast.get().samples.band_of(found)
      told = string.format(',"remaining_time":%.1f,"remaining_low":%.1f,"remaining_high":%.1f', middle, low, high)
    end
    times_left[b.batch_id] = told
  end
  return told or ',"remaining_time":null,"remaining_low":null,"remaining_high":null'
end

-- The inside of its JSON object; its time left is not looked for when nobody hears it.
local function batch_data(b, is_unheard)
  local parts = {b.head, ',"status":"', b.status, '","total":', b.total}
  for _, state in ipairs(COUNTED) do
    parts[#parts + 1] = ',"' .. state .. '":' .. (b[state] or '0')
  end
  -- Only all of it is 100; a sum of percentages may be a little less.
  local progress = batch_progress(b)
  if progress < 100 - 1e-7 then progress = math.min(progress, 99.9) end
  parts[#parts + 1] = string.format(',"progress":%.1f', progress)
  -- One of an earlier version does not know when it changed, but when it ended or was made.
  local changed_at = tonumber(b.changed_at or b.ended_at or b.created_at)
  parts[#parts + 1] = ',"updated_at":"' .. iso(changed_at or NOW) .. '"'
  parts[#parts + 1] = time_left(b, not is_unheard)
  return table.concat(parts)
end

-- Returns the fields of a batch that Python needs; false when there is none.
local function batch_reply(id)
  local b = load_batch(id)
  if not b then return false end
  return {id, b.user_id, b.status, '{' .. batch_data(b) .. '}',
    redis.call('LRANGE', P .. 'batch_tasks:' .. id, 0, -1)}
end

local function batch_status(b)
  local total = tonumber(b.total)
  local completed, cancelled = tonumber(b.completed or 0), tonumber(b.cancelled or 0)
  local ended = completed + cancelled + tonumber(b.failed or 0) + tonumber(b.dead or 0)
  if ended < total then
    return (ended > 0 or tonumber(b.processing or 0) > 0) and 'processing' or 'queued'
  end
  if completed == total then return 'completed' end
  if cancelled == total then return 'cancelled' end
  return completed > 0 and 'partial' or 'failed'
end

-- The inside of the JSON object of its `finished`.
local function batch_end(b)
  local data = locale_of(b) .. '"batch_id":"' .. b.batch_id .. '","final_status":"' .. b.status .. '","total":'
    .. b.total
  for i = 3, #COUNTED do
    data = data .. ',"' .. COUNTED[i] .. '":' .. (b[COUNTED[i]] or '0')
  end
  return data
end

local function delete_batch(id, user)
  records[batch_key(id)] = nil
  redis.call('DEL', batch_key(id), P .. 'batch_tasks:' .. id, log_key('batch', id))
  redis.call('ZREM', P .. 'ended_batches', id)
  redis.call('ZREM', P .. 'ended_batches:' .. user, id)
end

-- List an ended batch with its user's, the oldest of which go when there are too many.
local function list_ended_batch(id, user, ended_at)
  if most_ended == 0 then return end
  local own = P .. 'ended_batches:' .. user
  redis.call('ZADD', own, ended_at, id)
  local size = redis.call('ZCARD', own)
  if size > LOGS_KEPT then drop_logs('batch', own, size, 1) end
  if size <= most_ended then return end
  for _, old in ipairs(redis.call('ZRANGE', own, '0', whole(math.min(size - most_ended, MOST_LET_GO) - 1))) do
    delete_batch(old, user)
  end
end

local function end_batch(b)
  local id = b.batch_id
  set(b, 'ended_at', NOW_STAMP)
  redis.call('ZADD', P .. 'ended_batches', NOW_STAMP, id)
  list_ended_batch(id, b.user_id, NOW_STAMP)
  local data = batch_end(b)
  tell('batch', id, b, 'finished', batch_end)
  redis.call('XADD', P .. 'outbox', '*', 'event_id', id, 'kind', 'batch', 'user_id', b.user_id,
    'task_id', '', 'task_kind', b.kind or '', 'batch_id', id, 'status', b.status, 'result',
    '{' .. data .. '}', 'error', '', 'job', '', 'ended_at', NOW_STAMP)
end

-- Follow one task from a state and percentage to others.
local function batch_follow(id, from, to, from_percent, to_percent)
  local b = load_batch(id)
  if not b then return end
  local shown = math.floor(batch_progress(b))
  if from ~= to then
    set(b, from, tostring((b[from] or 0) - 1), to, tostring((b[to] or 0) + 1))
  end
  set(b, 'progress_sum', tostring(b.progress_sum + to_percent - from_percent))
  set(b, 'status', batch_status(b), 'changed_at', NOW_STAMP)
  -- Not every step of every task is news of the batch: whole percents are.
  if from ~= to or math.floor(batch_progress(b)) ~= shown then
    emit('batch', id, b, 'progress', batch_data(b, not is_heard('batch', id)))
  end
  if not GOES_ON[b.status] and not b.ended_at then end_batch(b) end
end
