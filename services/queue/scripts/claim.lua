-- Uses: always, moves
--
-- Give a worker the next tasks, after ending those that it hands in.
--
-- ARGV[3] request id       ARGV[4] worker id      ARGV[5] how many at most
-- ARGV[6] running tasks a user, 0: any            ARGV[7] running tasks in all, 0: any
-- ARGV[8] visibility [s]   ARGV[9] order          ARGV[10] attempts before a task is dead
-- ARGV[11] ended tasks kept a user, 0: any
-- ARGV[12...] for each ended task: its id, token, outcome, result, error, fragment, delay [s]
-- Reply: {whether each was still owned (0 or 1), {id, user, symbol, params, batch
-- id, attempt, when made, when started, token} of each claimed task}. Repeated
-- with the same request id it returns the same tasks, as far as they are still the worker's.
local request_key = P .. 'request:' .. ARGV[3]
local most, user_limit, global_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local ACKS = 12
most_ended = tonumber(ARGV[11])

-- Read the fields that the start and the end of a task need; nil when they cannot be read. These two are
-- most of the reading that this script does, so they look at no field that they do not need.
local function load_waiting(id)
  local key = task_key(id)
  if records[key] then return records[key] end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'attempt', 'event_seq', 'percent')
  if v[1] ~= 'queued' then return nil end
  local made = read_made(v[2])
  if not (made and tonumber(made[8]) and is_whole(v[3] or '0') and is_whole(v[4] or '1')
      and is_percentage(v[5] or '0')) then return nil end
  return adopt({
    _key = key, _changes = false, _numbered = false, task_id = id, status = v[1], made = v[2],
    attempt = v[3] or '0', event_seq = v[4] or '1', user_id = made[1], batch_id = made[2],
    symbol = made[3], params = made[4], created_at = made[5], token = '', started_at = '',
    percent = '0',
  }, TASK)
end

local function load_claimed(id)
  local key = task_key(id)
  if records[key] then return records[key] end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'token', 'event_seq', 'started_at', 'revived',
    'percent')
  if not v[1] then return nil end
  local made = read_made(v[2])
  if not (made and STATES[v[1]] and is_whole(v[4] or '1') and is_percentage(v[7] or '0')) then
    return nil
  end
  return adopt({
    _key = key, _changes = false, _numbered = false, task_id = id, status = v[1], made = v[2],
    token = v[3] or '', event_seq = v[4] or '1', started_at = v[5], revived = v[6] or '0',
    percent = v[7] or '0', user_id = made[1], batch_id = made[2], symbol = made[3],
    callback_url = made[6], notify = made[7], ended_at = '', result = '', fragment = nil, error = nil,
  }, TASK)
end

-- The owner ends his task. Returns 1, or 0 when the token is not the one of the running attempt.
local function ack(id, token, outcome, result, error, fragment, delay)
  local load_ending = outcome == 'retry' and load_task or load_claimed
  local t = load_ending(id)
  if not t or token == '' then return 0 end
  if t.token ~= token then return t.closed == token and 1 or 0 end
  if t.status ~= 'processing' then return 1 end
  if outcome == 'retry' then
    give_back(t, tonumber(ARGV[10]), error, NOW + tonumber(delay), token)
  else
    end_task(t, outcome, token, result, error, fragment)
  end
  return 1
end

local ending, owned = {}, {}
for i = ACKS, #ARGV, 7 do ending[#ending + 1] = ARGV[i] end
look_for_listeners('task', ending)
for i = ACKS, #ARGV, 7 do
  owned[#owned + 1] = ack(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
    ARGV[i + 6])
end
settle()

local function claimed_reply(t)
  return {t.task_id, t.user_id, t.symbol, t.params, t.batch_id, t.attempt, t.created_at,
    t.started_at, t.token}
end

local earlier = most > 0 and redis.call('GET', request_key)
if earlier then
  local again, kept = {}, cmsgpack.unpack(earlier)
  for i = 1, #kept, 2 do
    local t = load_task(kept[i])
    if t and t.token == kept[i + 1] and t.status == 'processing' then
      again[#again + 1] = claimed_reply(t)
    end
  end
  return {owned, again}
end

-- A changed order or limit: everybody's turn is found anew, once.
local config = redis.call('HMGET', P .. 'config', 'order', 'user_limit')
if config[1] ~= ARGV[9] or config[2] ~= ARGV[6] then
  local users = redis.call('ZRANGE', P .. 'ready', 0, -1)
  local aside = redis.call('SMEMBERS', P .. 'parked')
  table.sort(aside)
  for _, user in ipairs(aside) do users[#users + 1] = user end
  redis.call('DEL', P .. 'ready', P .. 'parked')
  redis.call('HSET', P .. 'config', 'order', ARGV[9], 'user_limit', ARGV[6])
  kept_order, parked = ARGV[9], false
  schedule(users)
end
kept_order = ARGV[9]

local function at_limit(user)
  return user_limit > 0 and counted('active', user) >= user_limit
end

local claimed, tokens, leases, token = {}, {}, {}, nil
local lease_end = lease_until(NOW + tonumber(ARGV[8]))

local function start(t)
  -- Numbers that are not given out are no loss.
  token = (token or redis.call('INCRBY', P .. 'tokens', most) - most) + 1
  count('active', t.user_id, 1)
  set(t, 'status', 'processing', 'token', tostring(token), 'worker_id', ARGV[4],
    'started_at', NOW_STAMP, 'attempt', tostring(t.attempt + 1))
  tell('task', t.task_id, t, 'progress', snapshot)
  follow_in_batch(t, 'queued', 0)
  claimed[#claimed + 1] = claimed_reply(t)
  put(tokens, t.task_id, t.token)
  put(leases, lease_end, t.task_id)
end

-- In order of submission and while nobody stands aside, the line itself is the order: whole stretches
-- of it are taken at once, up to the first task of a user at his limit.
local function take_stretch(room)
  if order() ~= 'fifo' or some_are_parked() then return end
  local taken, taken_of = 0, {}
  local ids = redis.call('ZRANGE', P .. 'waiting', 0, room - 1)
  look_for_listeners('task', ids)
  for _, id in ipairs(ids) do
    local t = load_waiting(id)
    if not t then
      set_aside(id)
    else
      local user = t.user_id
      if at_limit(user) then break end
      start(t)
      taken = taken + 1
      note(moved, user)
      taken_of[user] = (taken_of[user] or 0) + 1
    end
  end
  if taken == 0 then return settle_line() end
  redis.call('ZREMRANGEBYRANK', P .. 'waiting', 0, taken - 1)
  for user, number in pairs(taken_of) do
    redis.call('ZREMRANGEBYRANK', P .. 'waiting:' .. user, 0, number - 1)
  end
  settle_line()
end

-- The first task of the user whose turn it is, out of the line; nil when nobody may.
local function take_turn()
  local user = redis.call('ZRANGE', P .. 'ready', 0, 0)[1]
  while user and at_limit(user) do
    park(user)
    user = redis.call('ZRANGE', P .. 'ready', 0, 0)[1]
  end
  if not user then return nil end
  local own = P .. 'waiting:' .. user
  local id = redis.call('ZPOPMIN', own)[1]
  if id then redis.call('ZREM', P .. 'waiting', id) end
  local head = redis.call('ZRANGE', own, 0, 0, 'WITHSCORES')[2]
  if not head then
    redis.call('ZREM', P .. 'ready', user)
  else
    -- In fair order he draws a new turn.
    local turn = order() == 'fifo' and head or redis.call('INCR', P .. 'turn')
    redis.call('ZADD', P .. 'ready', turn, user)
  end
  return id
end

local room = most
if global_limit > 0 then
  room = math.min(most, global_limit - redis.call('ZCARD', P .. 'processing'))
end
if room > 0 then take_stretch(room) end
while #claimed < room do
  local id = take_turn()
  if not id then break end
  local t = load_waiting(id)
  if t then start(t) else set_aside(id) end
end
call_in_parts('ZADD', P .. 'processing', leases)
-- Also that nothing was found: the request, sent again and done late, must not find what came since.
if most > 0 then redis.call('SET', request_key, cmsgpack.pack(tokens), 'EX', 60) end
return {owned, claimed}
