-- Uses: task, batch, counts, wake
--
-- The transitions of a task.

local pace_changed = false
-- The pace follows the last tasks (exponential moving average).
local function note_pace(t)
  local started = tonumber(t.started_at)
  if t.status ~= 'processing' or not started then return end
  local took = NOW - started
  local mean = mean_seconds() or took
  pace, pace_changed = mean + (took - mean) / 8, true
end

local function in_batch(status)
  return status == 'delayed' and 'queued' or status
end

-- A task's share of its batch's progress.
local function share(t)
  return t.batch_id ~= '' and tonumber(t.percent) or 0
end

local function follow_in_batch(t, from, from_percent)
  if t.batch_id == '' then return end
  local percent = ENDED[t.status] and 100 or tonumber(t.percent)
  batch_follow(t.batch_id, in_batch(from), in_batch(t.status), from_percent, percent)
end

-- Tasks that have ended, to be put into `ended` at once, and into the lists of their users.
local over, over_of = {}, {ended = {}, dead = {}}
-- By how many more ended tasks are in these lists than before.
local listed = 0

-- In a list of a user a moment is in whole microseconds: Redis keeps and compares few integers faster
-- than floats. An earlier version wrote seconds, which come before all of these.
local function moment(seconds)
  return string.format('%d', seconds * 1000000)
end

-- A user's ended tasks are listed by when they ended: the dead, for whom an operator may come, apart.
local function list_of(status)
  return status == 'dead' and 'dead' or 'ended'
end

-- Delete the oldest ended tasks of a list, and take each out of the list of its batch.
local function let_go(list, user, number)
  local own, keys, ids = P .. list .. ':' .. user, {}, {}
  for _, id in ipairs(redis.call('ZRANGE', own, 0, number - 1)) do
    local key = task_key(id)
    local t = records[key]
    local status, made = t and t.status, t and t.made
    if not t then
      local values = redis.pcall('HMGET', key, 'status', 'made')
      status, made = values[1], values[2]
    end
    -- A process of an earlier version may have deleted or revived it.
    if ENDED[status] and list_of(status) == list then
      made = read_made(made)
      if made and made[2] ~= '' then redis.call('LREM', P .. 'batch_tasks:' .. made[2], 1, id) end
      count('counts', status, -1)
      records[key] = nil
      put(keys, key, log_key('task', id))
      ids[#ids + 1] = id
    end
  end
  for first = 1, #keys, PART do redis.call('DEL', unpack(keys, first, math.min(first + PART - 1, #keys))) end
  call_in_parts('ZREM', P .. 'ended', ids)
  call_in_parts('ZREM', P .. 'tasks:' .. user, ids)
  if list == 'dead' then call_in_parts('ZREM', P .. 'dead', ids) end
  redis.call('ZREMRANGEBYRANK', own, 0, number - 1)
  listed = listed - #ids
end

local function list_ended(list, user, members)
  local own, added = P .. list .. ':' .. user, #members / 2
  call_in_parts('ZADD', own, members)
  listed = listed + added
  local size = redis.call('ZCARD', own)
  if size > LOGS_KEPT then drop_logs('task', own, size, added) end
  if size > most_ended then let_go(list, user, math.min(size - most_ended, added + MOST_LET_GO)) end
end

-- Before tasks are taken, and behind the body.
local function settle()
  call_in_parts('ZREM', P .. 'processing', left)
  if #over > 0 then
    call_in_parts('ZADD', P .. 'ended', over)
    for list, users in pairs(over_of) do
      for user, members in pairs(users) do list_ended(list, user, members) end
    end
    over, over_of = {}, {ended = {}, dead = {}}
  end
  left = {}
  settle_line()
end
-- First of all: what goes here needs not be written any more.
table.insert(finishers, 1, function()
  settle()
  if pace_changed then redis.call('HSET', P .. 'pace', 'seconds', string.format('%.4f', pace)) end
  if listed ~= 0 and redis.call('INCRBY', P .. 'listed', listed) <= 0 then
    redis.call('DEL', P .. 'listed')
  end
end)

-- Take the task out of the structures of its state.
local function leave(t)
  local id, user = t.task_id, t.user_id
  if t.status == 'queued' then
    step_out(id, user)
  elseif t.status == 'delayed' then
    redis.call('ZREM', P .. 'delayed', id)
    count('aside', user, -1)
  elseif t.status == 'processing' then
    left[#left + 1] = id
    count('active', user, -1)
    note(freed, user)
  end
end

-- Put the task at its place in the line, or aside until `run_at`. A task that comes back keeps its
-- number, and so stands before all that its user submitted later.
local function wait_in_line(t, run_at)
  if run_at > NOW then
    count('aside', t.user_id, 1)
    redis.call('ZADD', P .. 'delayed', run_at, t.task_id)
    set(t, 'status', 'delayed')
    announce_due(run_at)
  else
    queue_up(t.task_id, t.user_id, t.seq)
    set(t, 'status', 'queued')
    wake_workers()
  end
end

-- `attempt`: the number that the task waits with. `closed`: the token of an owner who gave it back
-- himself, so that the same request repeated is known; "" when he was lost.
local function requeue(t, attempt, run_at, closed)
  local from, from_percent = t.status, share(t)
  keep_told(t)
  leave(t)
  set(t, 'attempt', tostring(attempt), 'token', '', 'closed', closed, 'fragment', '', 'percent', '0')
  wait_in_line(t, run_at)
  emit_progress(t)
  follow_in_batch(t, from, from_percent)
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
  local from, from_percent = t.status, share(t)
  if status ~= 'cancelled' and status ~= 'dead' then note_pace(t) end
  leave(t)
  if fragment == '' then
    set(t, 'status', status, 'ended_at', NOW_STAMP, 'result', result)
  else
    set(t, 'status', status, 'ended_at', NOW_STAMP, 'result', result, 'fragment', fragment)
  end
  if token ~= t.token then set(t, 'token', token) end
  t.error = error
  if error ~= '' then set(t, 'error', error) end
  put(over, NOW_STAMP, t.task_id)
  if most_ended > 0 then
    local own = over_of[list_of(status)]
    local members = own[t.user_id]
    if members then put(members, moment(NOW), t.task_id) else own[t.user_id] = {moment(NOW), t.task_id} end
  end
  if status == 'dead' then redis.call('ZADD', P .. 'dead', NOW_STAMP, t.task_id) end
  count('counts', status, 1)
  tell('task', t.task_id, t, 'progress', snapshot)
  tell('task', t.task_id, t, 'finished', task_end)
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
  listed = listed - redis.call('ZREM', P .. list_of(t.status) .. ':' .. t.user_id, t.task_id)
  count('counts', t.status, -1)
end

local function delete_task(t)
  forget_end(t)
  delete(t)
  redis.call('DEL', log_key('task', t.task_id))
  redis.call('ZREM', P .. 'tasks:' .. t.user_id, t.task_id)
  if t.batch_id ~= '' then
    redis.call('LREM', P .. 'batch_tasks:' .. t.batch_id, 1, t.task_id)
  end
end

-- Take an id that no task waits under out of the line of its user, whoever that is.
local function forget_turn(id)
  local users = redis.call('ZRANGE', P .. 'ready', 0, -1)
  for _, user in ipairs(redis.call('SMEMBERS', P .. 'parked')) do users[#users + 1] = user end
  for _, user in ipairs(users) do
    if redis.call('ZREM', P .. 'waiting:' .. user, id) == 1 then return note(moved, user) end
  end
end

-- End a task that cannot be read in the batch that its id names.
local function fail_in_batch(id, from)
  local batch_id = string.match(id, '^(.+)%-%d+$')
  local b = batch_id and load_batch(batch_id)
  if not b or redis.call('LREM', P .. 'batch_tasks:' .. batch_id, 1, id) == 0 then return end
  batch_follow(batch_id, from, 'failed', 0, 100)
end

-- A task whose record cannot be read stops nobody else: it goes out of all that serves others, and into
-- `broken`, for an operator. What was counted for it is counted anew by upkeep.
local function set_aside(id)
  if redis.call('ZREM', P .. 'waiting', id) == 1 then
    forget_turn(id)
    fail_in_batch(id, 'queued')
  end
  if redis.call('ZREM', P .. 'delayed', id) == 1 then
    redis.call('SADD', P .. 'recount', 'aside')
    fail_in_batch(id, 'queued')
  end
  if redis.call('ZREM', P .. 'processing', id) == 1 then
    redis.call('SADD', P .. 'recount', 'active')
    fail_in_batch(id, 'processing')
  end
  redis.call('ZREM', P .. 'ended', id)
  redis.call('ZREM', P .. 'dead', id)
  redis.call('SADD', P .. 'broken', id)
end
