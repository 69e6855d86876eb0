-- Give a worker the next tasks, after ending those that it hands in.
--
-- ARGV[3] request id       ARGV[4] worker id      ARGV[5] how many at most
-- ARGV[6] running tasks a user, 0: any            ARGV[7] running tasks in all, 0: any
-- ARGV[8] visibility [s]   ARGV[9] order          ARGV[10] attempts before a task is dead
-- ARGV[11...] for each ended task: its id, token, outcome, result, error, fragment, delay [s]
-- Reply: {whether each was still owned (0 or 1), the claimed tasks}. Repeated with the same request
-- id it returns the same tasks, as far as they are still the worker's.
local request_key = P .. 'request:' .. ARGV[3]
local user_limit, global_limit = tonumber(ARGV[6]), tonumber(ARGV[7])

local owned = {}
for i = 11, #ARGV, 7 do
  owned[#owned + 1] = ack(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5], tonumber(ARGV[10]), NOW + tonumber(ARGV[i + 6]))
end

local earlier = redis.call('HGETALL', request_key)
if #earlier > 0 then
  local again = {}
  for i = 1, #earlier, 2 do
    local t = load_task(earlier[i])
    if t and t.token == earlier[i + 1] and t.status == 'processing' then
      again[#again + 1] = brief_reply(t)
    end
  end
  return {owned, again}
end

-- A changed order or limit: everybody's turn is found anew, once.
local limit = redis.call('HGET', P .. 'config', 'user_limit')
if order() ~= ARGV[9] or limit ~= ARGV[6] then
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
    local running = tonumber(redis.call('HGET', P .. 'active', first) or 0)
    if running < user_limit then return first end
    redis.call('ZREM', P .. 'ready', first)
    redis.call('SADD', P .. 'parked', first)
  end
end

local function start(id)
  local t = load_task(id)
  leave(t)
  count('active', t.user_id, 1)
  redis.call('ZADD', P .. 'processing', NOW + tonumber(ARGV[8]), id)
  set(t, {
    status = 'processing', token = tostring(redis.call('INCR', P .. 'tokens')),
    worker_id = ARGV[4], started_at = stamp(NOW), attempt = tostring(tonumber(t.attempt) + 1),
    fragment = t.plan, percent = '0',
  })
  emit_progress(t)
  save(t)
  follow_in_batch(t, 'queued', 0)
  return t
end

local claimed, tokens = {}, {}
while #claimed < tonumber(ARGV[5]) do
  if global_limit > 0 and redis.call('ZCARD', P .. 'processing') >= global_limit then break end
  local user = next_user()
  if not user then break end
  take_turn(user)
  local t = start(redis.call('ZRANGE', P .. 'waiting:' .. user, 0, 0)[1])
  claimed[#claimed + 1] = brief_reply(t)
  tokens[#tokens + 1], tokens[#tokens + 2] = t.task_id, t.token
end
if #tokens > 0 then
  redis.call('HSET', request_key, unpack(tokens))
  redis.call('EXPIRE', request_key, 60)
end
return {owned, claimed}
