-- Give a worker the next tasks, after ending those that it hands in.
--
-- ARGV[3] request id       ARGV[4] worker id      ARGV[5] how many at most
-- ARGV[6] running tasks a user, 0: any            ARGV[7] running tasks in all, 0: any
-- ARGV[8] visibility [s]   ARGV[9] order          ARGV[10] attempts before a task is dead
-- ARGV[11...] for each ended task: its id, token, outcome, result, error, fragment, delay [s]
-- Reply: {whether each was still owned (0 or 1), the fields CLAIMED of each claimed task}. Repeated
-- with the same request id it returns the same tasks, as far as they are still the worker's.
local request_key = P .. 'request:' .. ARGV[3]
local most, user_limit, global_limit = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])

local ENDING = {'user_id', 'batch_id', 'head', 'token', 'closed', 'attempt', 'percent', 'event_seq',
  'started_at', 'symbol', 'callback_url', 'revived'}
local STARTING = {'user_id', 'batch_id', 'head', 'token', 'attempt', 'event_seq', 'symbol', 'params',
  'created_at', 'plan'}
local CLAIMED = {'task_id', 'user_id', 'symbol', 'params', 'batch_id', 'attempt', 'created_at',
  'started_at', 'token'}

-- The owner ends his task. Returns 1, or 0 when the token is not the one of the running attempt.
local function ack(id, token, outcome, result, error, fragment, max_attempts, run_at)
  local t = load_task(id, ENDING)
  if not t or token == '' then return 0 end
  if t.closed == token then return 1 end
  if t.token ~= token then return 0 end
  if t.status ~= 'processing' then return 1 end
  if outcome == 'retry' then
    give_back(t, max_attempts, error, run_at, token)
  else
    end_task(t, outcome, token, result, error, fragment)
  end
  return 1
end

local owned = {}
for i = 11, #ARGV, 7 do
  owned[#owned + 1] = ack(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5], tonumber(ARGV[10]), NOW + tonumber(ARGV[i + 6]))
end

local function claimed_reply(t)
  local values = {}
  for i, field in ipairs(CLAIMED) do values[i] = t[field] end
  return values
end

local earlier = redis.call('HGETALL', request_key)
if #earlier > 0 then
  local again = {}
  for i = 1, #earlier, 2 do
    local t = load_task(earlier[i], STARTING)
    if t and t.token == earlier[i + 1] and t.status == 'processing' then
      again[#again + 1] = claimed_reply(t)
    end
  end
  return {owned, again}
end

-- A changed order or limit: everybody's turn is found anew, once.
settle_line()
if order() ~= ARGV[9] or redis.call('HGET', P .. 'config', 'user_limit') ~= ARGV[6] then
  local waiting = redis.call('ZRANGE', P .. 'ready', 0, -1)
  for _, user in ipairs(redis.call('SMEMBERS', P .. 'parked')) do waiting[#waiting + 1] = user end
  redis.call('DEL', P .. 'ready', P .. 'parked')
  redis.call('HSET', P .. 'config', 'order', ARGV[9], 'user_limit', ARGV[6])
  kept_order = ARGV[9]
  for _, user in ipairs(waiting) do schedule(user) end
end

local function next_user()
  while true do
    local first = redis.call('ZRANGE', P .. 'ready', 0, 0)[1]
    if not first or user_limit == 0 then return first end
    if counted('active', first) < user_limit then return first end
    redis.call('ZREM', P .. 'ready', first)
    redis.call('SADD', P .. 'parked', first)
  end
end

local function start(id, token)
  local t = load_task(id, STARTING)
  count('pending', t.user_id, -1)
  count('active', t.user_id, 1)
  set(t, {
    status = 'processing', token = token, worker_id = ARGV[4], started_at = NOW_STAMP,
    attempt = tostring(tonumber(t.attempt) + 1), fragment = '', percent = '0',
  })
  emit_progress(t)
  follow_in_batch(t, 'queued', 0)
  return t
end

local room = most
if global_limit > 0 then
  room = math.min(most, global_limit - redis.call('ZCARD', P .. 'processing'))
end
local claimed, tokens, leases, token = {}, {}, {}, nil
local lease_end = stamp(NOW + tonumber(ARGV[8]))
while #claimed < room do
  local user = next_user()
  if not user then break end
  -- Numbers that are not given out are no loss.
  token = (token or redis.call('INCRBY', P .. 'tokens', most) - most) + 1
  local t = start(take_first(user), tostring(token))
  claimed[#claimed + 1] = claimed_reply(t)
  put(tokens, t.task_id, t.token)
  put(leases, lease_end, t.task_id)
end
if #claimed > 0 then
  redis.call('ZADD', P .. 'processing', unpack(leases))
  redis.call('HSET', request_key, unpack(tokens))
  redis.call('EXPIRE', request_key, 60)
end
return {owned, claimed}
