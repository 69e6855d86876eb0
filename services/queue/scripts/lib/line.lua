-- The line: who waits, and whose turn it is.
--
-- Invariant: a queued task is in `waiting` and in `waiting:{user}`, both scored by its number of
-- submission, and its user is in exactly one of `ready` (scored by when it is his turn) and
-- `parked` (he was found at his limit). Users without a queued task are in neither.
-- `pending` counts each user's queued and delayed tasks, `active` his claimed ones.

-- The counts by user and by state. Each is read once and written once a script.
local counters = {pending = {}, active = {}, counts = {}}

local function counted(hash, field)
  local kept = counters[hash]
  kept[field] = kept[field] or tonumber(redis.call('HGET', P .. hash, field) or 0)
  return kept[field]
end

local function count(hash, field, by)
  counters[hash][field] = counted(hash, field) + by
end

local function save_counts()
  for hash, numbers in pairs(counters) do
    for field, number in pairs(numbers) do
      if number > 0 then
        redis.call('HSET', P .. hash, field, number)
      else
        redis.call('HDEL', P .. hash, field)
      end
    end
  end
end

local kept_order
local function order()
  kept_order = kept_order or redis.call('HGET', P .. 'config', 'order') or 'fifo'
  return kept_order
end

-- FIFO: a user's turn is the number of his oldest waiting task. Fair: a number drawn anew after
-- each of his claims, so that users go in rounds.
local function schedule(user)
  local head = redis.call('ZRANGE', P .. 'waiting:' .. user, 0, 0, 'WITHSCORES')
  if #head == 0 then
    redis.call('ZREM', P .. 'ready', user)
    redis.call('SREM', P .. 'parked', user)
    return
  end
  if redis.call('SISMEMBER', P .. 'parked', user) == 1 then return end
  if order() == 'fifo' then
    redis.call('ZADD', P .. 'ready', head[2], user)
  else
    redis.call('ZADD', P .. 'ready', 'NX', redis.call('INCR', P .. 'turn'), user)
  end
end

-- Whose turn is to be found anew, and who may be so because a task of his ended. Found by
-- `settle_line`: before tasks are taken, and at the end of every script.
local moved, freed = {}, {}

local function settle_line()
  for user in pairs(freed) do
    if redis.call('SREM', P .. 'parked', user) == 1 then schedule(user) end
  end
  for user in pairs(moved) do schedule(user) end
  moved, freed = {}, {}
end

local function queue_up(id, user, seq)
  redis.call('ZADD', P .. 'waiting', seq, id)
  redis.call('ZADD', P .. 'waiting:' .. user, seq, id)
  -- Behind others nothing changes for the user's turn.
  if redis.call('ZRANK', P .. 'waiting:' .. user, id) == 0 then moved[user] = true end
end

local function step_out(id, user)
  redis.call('ZREM', P .. 'waiting', id)
  redis.call('ZREM', P .. 'waiting:' .. user, id)
  moved[user] = true
end

-- Take the first task of a user who is in `ready` out of the line. In fair order he draws a new turn.
local function take_first(user)
  local own = P .. 'waiting:' .. user
  local id = redis.call('ZPOPMIN', own)[1]
  redis.call('ZREM', P .. 'waiting', id)
  local head = redis.call('ZRANGE', own, 0, 0, 'WITHSCORES')[2]
  if not head then
    redis.call('ZREM', P .. 'ready', user)
  else
    redis.call('ZADD', P .. 'ready', order() == 'fifo' and head or redis.call('INCR', P .. 'turn'),
      user)
  end
  return id
end

local function position(id)
  local rank = redis.call('ZRANK', P .. 'waiting', id)
  return rank and rank + 1 or nil
end
