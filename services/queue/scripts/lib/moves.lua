-- Uses: task, batch, counts, wake, notes, changes, journal, found
--
-- The transitions of a task.

local function note_pace(t)
  local started = tonumber(t.started_at)
  if t.status == 'processing' and started then note_length(t.kind, NOW - started) end
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

-- Whether a task that ran has left its place: others may start in it.
local vacated = false

-- Tasks that have ended, to be put into `ended` at once, and into the lists of their users.
local over, over_of = {}, {ended = {}, dead = {}}
-- By how many more ended tasks are in these lists than before.
local listed = 0

-- In a list of a user a moment is in whole microseconds: Redis keeps and compares few integers faster
-- than floats. An earlier version wrote seconds, which come before all of these.
local function moment(seconds)
  return string.format('%d', seconds * 1000000)
end
local this_moment = moment(NOW)

-- A user's ended tasks are listed by when they ended: the dead, for whom an operator may come, apart.
local function list_of(status)
  return status == 'dead' and 'dead' or 'ended'
end

-- Plans are kept while a task names them, and for a while longer: upkeep deletes those that are idle.
local used = {}
local function use_plan(digest)
  count('plan_uses', digest, 1)
  if not used[digest] then redis.call('ZREM', P .. 'plan_idle', digest) end
  used[digest] = true
end

-- `first`: the plan that the task was made with; `later`: those that it took on, with spaces between.
local function leave_plans(first, later)
  if first ~= '' then count('plan_uses', first, -1) end
  for digest in string.gmatch(later, '%S+') do count('plan_uses', digest, -1) end
end

when_none.plan_uses = function(digest) redis.call('ZADD', P .. 'plan_idle', NOW_STAMP, digest) end

-- Delete the oldest ended tasks of a list, and take each out of the list of its batch.
local function let_go(list, user, number)
  local own, last, keys, ids = P .. list .. ':' .. user, whole(number - 1), {}, {}
  for _, id in ipairs(redis.call('ZRANGE', own, '0', last)) do
    local key = task_key(id)
    local t = records[key]
    local status, made, plans = t and t.status, t and t[PACKED], t and t.plans
    if not t then
      local values = redis.pcall('HMGET', key, 'status', 'made', 'plans')
      status, made, plans = values[1], read_made(values[2]), values[3]
    end
    -- A process of an earlier version may have deleted or revived it.
    if ENDED[status] and list_of(status) == list then
      if made then
        local batch = made[AT.batch_id]
        if batch ~= '' then redis.call('LREM', P .. 'batch_tasks:' .. batch, 1, id) end
        leave_plans(made[AT.plan], plans or '')
        note_gone(made[AT.seq])
      end
      count('counts', status, -1)
      note_removal(user, id)
      records[key] = nil
      put(keys, key, log_key('task', id))
      put(keys, kept_key(id), asked_key(id))
      ids[#ids + 1] = id
    end
  end
  delete_in_parts(keys)
  call_in_parts('ZREM', P .. 'ended', ids)
  call_in_parts('ZREM', P .. 'tasks:' .. user, ids)
  call_in_parts('ZREM', P .. 'tasks:', ids)
  if list == 'dead' then call_in_parts('ZREM', P .. 'dead', ids) end
  redis.call('ZREMRANGEBYRANK', own, '0', last)
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
  if unblocked or vacated then wake_workers() end
  if listed ~= 0 and redis.call('INCRBY', P .. 'listed', listed) <= 0 then
    redis.call('DEL', P .. 'listed')
  end
end)

-- Take the task out of the structures of its state.
local function leave(t)
  local id, user = t.task_id, t.user_id
  if t.status == 'queued' then
    step_out(t)
  elseif t.status == 'delayed' then
    redis.call('ZREM', P .. 'delayed', id)
    count('aside', user, -1)
  elseif t.status == 'processing' then
    left[#left + 1] = id
    vacated = true
    count('active', user, -1)
    count('active_of', pair(t.kind, user), -1)
    count('running', t.kind, -1)
    free(freed, user)
    if t.key ~= '' then
      local both = pair(t.kind, t.key)
      count('keys', both, -1)
      free(freed_keys, both)
    end
  end
end

-- Put the task at its place in the line, or aside until `run_at`. A task that comes back keeps its
-- number, and so stands before all that its user submitted later; `since` is when it came back.
local function wait_in_line(t, run_at)
  note_change(t)
  if run_at > NOW then
    count('aside', t.user_id, 1)
    redis.call('ZADD', P .. 'delayed', run_at, t.task_id)
    set(t, 'status', 'delayed')
    announce_due(run_at)
  else
    queue_up(t)
    if t.status ~= '' then set(t, 'since', NOW_STAMP) end
    set(t, 'status', 'queued')
    wake_workers()
  end
end

local note_attempt, note_use
do
  -- Text of at most this many bytes, cut before a character (a continuation byte of UTF-8 is 0x80 to 0xbf).
  local ELLIPSIS = '…'
  local function cut(text, most)
    if #text <= most then return text end
    local kept = most - #ELLIPSIS
    while kept > 0 and string.find(text, '^[\128-\191]', kept + 1) do kept = kept - 1 end
    return string.sub(text, 1, kept) .. ELLIPSIS
  end

  -- The time of an attempt counts, also of one that was handed back.
  function note_use(t, ended_at)
    local started, ended = tonumber(t.started_at), tonumber(ended_at)
    if not (started and ended) then return end
    set(t, 'used', string.format('%.6f', used_seconds(t) + math.max(ended - started, 0)))
  end

  -- The attempts of a task that ended before its last one; the oldest are forgotten.
  local MOST_ATTEMPTS, MOST_REASON = 50, 500
  function note_attempt(t, outcome, reason, ended_at)
    note_use(t, ended_at)
    local readable, list = pcall(cmsgpack.unpack, t.attempts)
    if not (readable and type(list) == 'table' and list[1]) then list = {} end
    list[#list + 1] = {t.attempt, t.started_at or '', ended_at, outcome, cut(reason, MOST_REASON), t.worker_id or ''}
    if #list > MOST_ATTEMPTS then table.remove(list, 1) end
    set(t, 'attempts', cmsgpack.pack(list))
  end
end

-- Tell the last report of an attempt that is over, unless it came alone meanwhile.
local function tell_last(t, fragment)
  if fragment == t.fragment then return end
  keep_told(t)
  set(t, 'fragment', fragment)
  emit_progress(t)
end

-- `attempt`: the number that the task waits with. `closed`: the token of an owner who gave it back
-- themselves, so that the same request repeated is known; "" when they were lost.
local function requeue(t, attempt, run_at, closed)
  local from, from_percent = t.status, share(t)
  keep_told(t)
  leave(t)
  set(t, 'attempt', tostring(attempt), 'token', '', 'closed', closed, 'fragment', '', 'percent', '0',
    'started_at', '')
  wait_in_line(t, run_at)
  emit_progress(t)
  follow_in_batch(t, from, from_percent)
end

-- Whether somebody hears of quiet ends, which are no news to their users. Read once.
local is_heard
local function quiet_end_is_heard()
  if is_heard == nil then is_heard = redis.call('EXISTS', P .. 'quiet_ends') == 1 end
  return is_heard
end

-- Of the tasks of a batch its end tells.
local function is_told(t)
  return t.notify ~= '0' or (t.batch_id == '' and quiet_end_is_heard())
end

-- A task that ended and is run again ends once more, and that is another event.
local function append_to_outbox(t)
  local event_id = t.task_id .. (t.revived == '0' and '' or ':' .. t.revived)
  redis.call('XADD', P .. 'outbox', '*', 'event_id', event_id, 'kind', 'task', 'user_id', t.user_id,
    'task_id', t.task_id, 'task_kind', t.kind, 'batch_id', t.batch_id, 'status', t.status,
    'result', t.result, 'error', t.error, 'job', t.job, 'ended_at', t.ended_at,
    'notify', t.notify == '0' and 'c' or t.notify)
end

-- A unique key names one task. It begins with how long it does: w until that starts, r until that ends, s for
-- some seconds.
local function free_unique(t, scopes)
  local unique = t.unique
  if unique == '' or not string.find(scopes, string.sub(unique, 1, 1), 1, true) then return end
  local key = P .. 'unique:' .. string.sub(unique, 2)
  if redis.call('GET', key) == t.task_id then redis.call('DEL', key) end
end

-- A fragment that says why nothing came of the task; as it is when it cannot be read.
local function with_reason(fragment, reason)
  local readable, fields = pcall(cjson.decode, '{' .. fragment .. '}')
  if not readable then return fragment end
  fields.message, fields.remaining_time = reason, 0
  return string.sub(cjson.encode(fields), 2, -2)
end

-- `token` stays when its owner ended the task, so that the same request repeated is known.
local function end_task(t, status, token, result, error, fragment)
  local from, from_percent = t.status, share(t)
  if status ~= 'cancelled' and status ~= 'dead' then note_pace(t) end
  leave(t)
  if fragment == '' and error ~= '' then
    fragment = with_reason(t.fragment == '' and t.first or t.fragment, error)
  end
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
    if members then put(members, this_moment, t.task_id) else own[t.user_id] = {this_moment, t.task_id} end
  end
  if status == 'dead' then redis.call('ZADD', P .. 'dead', NOW_STAMP, t.task_id) end
  free_unique(t, 'wr')
  if t.kept ~= '' then withdraw_questions(t) end
  -- An ended task needs no results of its steps any more.
  if status == 'completed' and t.kept ~= '' then redis.call('DEL', kept_key(t.task_id)) end
  count('counts', status, 1)
  count('ends', pair(t.kind, status), 1)
  note_state(t.seq, status, true)
  note_change(t)
  tell('task', t.task_id, t, 'progress', snapshot)
  tell('task', t.task_id, t, 'finished', task_end)
  if is_told(t) then append_to_outbox(t) end
  follow_in_batch(t, from, from_percent)
end

-- Ended tasks stay as they are. `by`: how it came to that and who asked for it, as a pair.
local function cancel(t, by)
  if ENDED[t.status] then return end
  journal(t, 'cancelled', by)
  if t.status == 'processing' then
    redis.call('PUBLISH', 'rt:workers',
      '{"type":"cancel","data":{"task_id":"' .. t.task_id .. '"}}')
  end
  end_task(t, 'cancelled', '', '', '', '')
end

-- An attempt is over without a result: again, or the end of the task. `outcome` is "error", "retry" or
-- "lost"; `closed` as in requeue.
local function give_back(t, outcome, reason, run_at, closed, fragment)
  if tonumber(t.attempt) >= tonumber(t.max_attempts) then
    journal(t, 'gave_up', outcome)
    end_task(t, outcome == 'error' and 'failed' or 'dead', closed, '', reason, fragment)
  else
    note_attempt(t, outcome, reason, NOW_STAMP)
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
  note_removal(t.user_id, t.task_id)
  forget_end(t)
  leave_plans(t.plan, t.plans)
  note_gone(t.seq)
  delete(t)
  redis.call('DEL', log_key('task', t.task_id), kept_key(t.task_id), asked_key(t.task_id))
  redis.call('ZREM', P .. 'tasks:' .. t.user_id, t.task_id)
  redis.call('ZREM', P .. 'tasks:', t.task_id)
  if t.batch_id ~= '' then
    redis.call('LREM', P .. 'batch_tasks:' .. t.batch_id, 1, t.task_id)
  end
end

-- Put what has ended back into the line, or aside until `run_at`, with all its attempts before it. A batch that
-- has ended stays ended: the task then goes on without it. `by`: how it came to that and who asked for it, as a pair.
local function run_again(t, by, run_at)
  journal(t, 'rerun', by)
  -- Later messages have numbers behind its end, which must be found among them.
  keep_told(t)
  forget_end(t)
  note_state(t.seq, t.status, false)
  local b = t.batch_id ~= '' and load_batch(t.batch_id)
  if b and b.ended_at then
    redis.call('LREM', P .. 'batch_tasks:' .. t.batch_id, 1, t.task_id)
    -- The fields that a later version keeps behind ours stay.
    local made = cmsgpack.unpack(t.made)
    local before, behind = string.find(made[AT.head], ',"batch_id":"' .. t.batch_id .. '"', 1, true)
    if before then
      made[AT.head] = string.sub(made[AT.head], 1, before - 1) .. string.sub(made[AT.head], behind + 1)
    end
    made[AT.batch_id], t.batch_id, t[PACKED] = '', '', made
    set(t, 'made', cmsgpack.pack(made))
  end
  local from = t.status
  -- One that was cancelled while it waited had no attempt then.
  if t.started_at ~= '' then note_attempt(t, from, t.error, t.ended_at) end
  set(t, 'attempt', '0', 'error', '', 'result', '', 'ended_at', '', 'started_at', '', 'fragment', '', 'percent',
    '0', 'token', '', 'closed', '', 'used', '0', 'revived', tostring(t.revived + 1))
  wait_in_line(t, run_at)
  emit_progress(t)
  follow_in_batch(t, from, 100)
end

-- Take an id that no task waits under out of the line of its user, who may be anybody.
local function forget_turn(line, id)
  local kind = kind_of(line)
  local users, lanes = {}, {}
  for _, user in ipairs(redis.call('ZRANGE', P .. 'ready:' .. line, 0, -1)) do note(users, user) end
  for _, user in ipairs(redis.call('SMEMBERS', P .. 'parked')) do note(users, user) end
  for _, both in ipairs(redis.call('HKEYS', P .. 'held')) do
    local of, key = split(both)
    if of == kind then
      for _, member in ipairs(redis.call('ZRANGE', P .. 'held:' .. both, 0, -1)) do
        local level, user = string.match(member, '^(%d)\n(.*)$')
        if level == string.sub(line, 1, 1) then put(lanes, user, key) end
      end
    end
  end
  for _, user in ipairs(users) do
    for _, entry in ipairs(redis.call('ZRANGE', user_line(line, user), 0, -1)) do
      if string.sub(entry, 1, 1) == MARK then put(lanes, user, string.sub(entry, 2)) end
    end
    if redis.call('ZREM', user_line(line, user), id) == 1 then
      note(moved, pair(line, user))
      return user
    end
  end
  for i = 1, #lanes, 2 do
    local user, key = lanes[i], lanes[i + 1]
    if redis.call('ZREM', lane_of(line, user, key), id) == 1 then
      place_lane(line, user, key, is_held(line, user, key))
      note(moved, pair(line, user))
      return user
    end
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
-- `broken`, for an operator. Upkeep counts anew the counts that it was in.
local function set_aside(id)
  for _, line in ipairs(redis.call('HKEYS', P .. 'queued')) do
    if redis.call('ZREM', P .. 'waiting:' .. line, id) == 1 then
      count('queued', line, -1)
      local user = forget_turn(line, id)
      if user then
        count('waiting_of', user, -1)
        note_removal(user, id)
      end
      fail_in_batch(id, 'queued')
    end
  end
  if redis.call('ZREM', P .. 'delayed', id) == 1 then
    redis.call('SADD', P .. 'recount', 'delayed')
    fail_in_batch(id, 'queued')
  end
  if redis.call('ZREM', P .. 'processing', id) == 1 then
    vacated = true
    redis.call('SADD', P .. 'recount', 'processing')
    fail_in_batch(id, 'processing')
  end
  redis.call('ZREM', P .. 'ended', id)
  redis.call('ZREM', P .. 'dead', id)
  redis.call('SADD', P .. 'broken', id)
end
