-- A task and its transitions.
--
-- Invariant: a task is in exactly one state, and in exactly the structures of that state:
-- queued: the line; delayed: `delayed`; processing: `processing` and the user's `active` count;
-- completed, failed, cancelled, dead: `ended` and `counts`.

-- The mean time that a task takes, in seconds; nil until one has ended. Read and written once.
local pace, pace_changed
local function mean_seconds()
  if pace == nil then
    pace = tonumber(redis.call('HGET', P .. 'pace', 'seconds') or '') or false
  end
  return pace or nil
end

-- It follows the last ones (exponential moving average).
local function note_pace(t)
  if t.status ~= 'processing' then return end
  local took = NOW - tonumber(t.started_at)
  local mean = mean_seconds() or took
  pace, pace_changed = mean + (took - mean) / 8, true
end

-- What every script ends with.
local function flush()
  settle_line()
  save_counts()
  if pace_changed then redis.call('HSET', P .. 'pace', 'seconds', string.format('%.4f', pace)) end
  save_records()
end

-- In how many seconds a task at this place of the line may start: what is before it, at the mean
-- time, over as many as run now. Until one has ended, what the enqueuer expects.
local function starts_in(t, here)
  local mean = mean_seconds() or tonumber(t.expected)
  local slots = math.max(redis.call('ZCARD', P .. 'processing'), 1)
  return mean * (here - 0.5) / slots
end

-- The inside of its JSON object in two parts, what is its own and the fragment; and its position.
local function snapshot(t)
  local place, here = '', nil
  if t.status == 'queued' then
    here = position(t.task_id)
    place = string.format('"position":%d,"starts_in":%.1f,', here, starts_in(t, here))
  elseif t.status == 'delayed' then
    place = '"run_at":"' .. iso(redis.call('ZSCORE', P .. 'delayed', t.task_id)) .. '",'
  end
  local head = t.head .. ',"status":"' .. t.status .. '","attempt":' .. t.attempt .. ',' .. place
  return head, t.fragment == '' and t.plan or t.fragment, here
end

local function emit_progress(t)
  emit('task', t.task_id, t, 'progress', snapshot(t))
end

-- What every transition reads of a task.
local CORE = {'user_id', 'batch_id', 'head', 'token', 'closed', 'attempt', 'percent', 'event_seq'}

local function load_task(id, fields)
  local t = load(task_key(id), fields or CORE)
  if t then t.task_id = id end
  return t
end

local function in_batch(status)
  return status == 'delayed' and 'queued' or status
end

local function follow_in_batch(t, from, from_percent)
  if t.batch_id == '' then return end
  local percent = ENDED[t.status] and 100 or tonumber(t.percent)
  batch_follow(t.batch_id, in_batch(from), in_batch(t.status), from_percent, percent)
end

-- Take the task out of the structures of its state.
local function leave(t)
  local id, user = t.task_id, t.user_id
  if t.status == 'queued' then
    step_out(id, user)
    count('pending', user, -1)
  elseif t.status == 'delayed' then
    redis.call('ZREM', P .. 'delayed', id)
    count('pending', user, -1)
  elseif t.status == 'processing' then
    redis.call('ZREM', P .. 'processing', id)
    count('active', user, -1)
    freed[user] = true
  end
end

-- Put the task at its place in the line, or aside until `run_at`. A task that comes back keeps its
-- number, and so stands before all that its user submitted later.
local function wait_in_line(t, run_at)
  count('pending', t.user_id, 1)
  if run_at > NOW then
    redis.call('ZADD', P .. 'delayed', run_at, t.task_id)
    set(t, {status = 'delayed'})
    announce_due(run_at)
  else
    queue_up(t.task_id, t.user_id, t.seq)
    set(t, {status = 'queued'})
    wake_workers()
  end
end

-- `attempt`: the number that the task waits with. `closed`: the token of an owner who gave it back
-- himself, so that the same request repeated is known; "" when he was lost.
local function requeue(t, attempt, run_at, closed)
  local from, from_percent = t.status, tonumber(t.percent)
  leave(t)
  set(t, {attempt = tostring(attempt), token = '', closed = closed, fragment = '', percent = '0'})
  wait_in_line(t, run_at)
  emit_progress(t)
  follow_in_batch(t, from, from_percent)
end

-- The inside of the JSON object of its `finished`.
local function task_end(t)
  local data = '"task_id":"' .. t.task_id .. '","final_status":"' .. t.status .. '"'
  if t.result ~= '' then data = data .. ',"result":' .. t.result end
  if t.error ~= '' then data = data .. ',"error":' .. cjson.encode(t.error) end
  return data
end

-- A task that was dead and is retried ends once more, and that is another event.
local function append_to_outbox(t)
  local event_id = t.task_id .. (t.revived == '0' and '' or ':' .. t.revived)
  redis.call('XADD', P .. 'outbox', '*', 'event_id', event_id, 'kind', 'task',
    'user_id', t.user_id, 'task_id', t.task_id, 'symbol', t.symbol, 'batch_id', t.batch_id,
    'status', t.status, 'result', t.result, 'error', t.error,
    'callback_url', t.callback_url, 'ended_at', t.ended_at)
end

-- `token` stays when its owner ended the task, so that the same request repeated is known.
local function end_task(t, status, token, result, error, fragment)
  local from, from_percent = t.status, tonumber(t.percent)
  if status ~= 'cancelled' and status ~= 'dead' then note_pace(t) end
  leave(t)
  set(t, {
    status = status, token = token, result = result, error = error, ended_at = NOW_STAMP,
  })
  if fragment ~= '' then set(t, {fragment = fragment}) end
  redis.call('ZADD', P .. 'ended', NOW_STAMP, t.task_id)
  if status == 'dead' then redis.call('ZADD', P .. 'dead', NOW_STAMP, t.task_id) end
  count('counts', status, 1)
  emit_progress(t)
  emit('task', t.task_id, t, 'finished', task_end(t), '')
  -- The news of a batch is its end, unless news of each task was asked for.
  if t.batch_id == '' or t.notify == '1' then append_to_outbox(t) end
  follow_in_batch(t, from, from_percent)
end

-- An attempt is over without a result: again, or dead. `closed` as in requeue.
local function give_back(t, max_attempts, reason, run_at, closed)
  if tonumber(t.attempt) >= max_attempts then
    end_task(t, 'dead', closed, '', reason, '')
  else
    requeue(t, t.attempt, run_at, closed)
  end
end

-- Take an ended task out of what is kept of ended ones.
local function forget_end(t)
  redis.call('ZREM', P .. 'ended', t.task_id)
  redis.call('ZREM', P .. 'dead', t.task_id)
  count('counts', t.status, -1)
end

local function delete_task(t)
  forget_end(t)
  delete(t)
  redis.call('DEL', events_key('task', t.task_id))
  redis.call('ZREM', P .. 'tasks:' .. t.user_id, t.task_id)
end

local REPLIED = {'task_id', 'user_id', 'symbol', 'params', 'batch_id', 'status', 'attempt',
  'created_at', 'started_at', 'ended_at', 'result', 'error', 'token', 'percent'}

-- What Python needs of a task, and its position while it waits.
local function brief_reply(t, here)
  local flat = {}
  for _, field in ipairs(REPLIED) do put(flat, field, t[field]) end
  if here then put(flat, 'position', tostring(here)) end
  return flat
end

-- Also its snapshot.
local function reply(t)
  local head, fragment, here = snapshot(t)
  local flat = brief_reply(t, here)
  put(flat, 'snapshot', '{' .. head .. fragment .. '}')
  return flat
end

-- A task that is not there yet. `run_at` 0 is now.
-- `given` has user_id, symbol, params, batch_id, head, plan, callback_url, expected and notify.
local function add_task(id, given, run_at)
  local user, seq = given.user_id, redis.call('INCR', P .. 'seq')
  local t = create(task_key(id))
  set(t, given)
  set(t, {
    fragment = '', attempt = '0', revived = '0', percent = '0', seq = tostring(seq),
    created_at = NOW_STAMP, started_at = '', ended_at = '', result = '', error = '', token = '',
    closed = '', worker_id = '',
  })
  t.task_id = id
  redis.call('ZADD', P .. 'tasks:' .. user, seq, id)
  wait_in_line(t, run_at)
  emit_progress(t)
  return t
end

local function has_room(user, adding, limit)
  return limit == 0 or counted('pending', user) + adding <= limit
end
