-- The line: who waits, and whose turn it is.
--
-- Invariant: a queued task is in `waiting` and in `waiting:{user}`, both scored by its number of
-- submission, and its user is in exactly one of `ready` (scored by when it is his turn) and
-- `parked` (he was found at his limit). Users without a queued task are in neither.
-- `pending` counts each user's queued and delayed tasks, `active` his claimed ones.

local function count(hash, field, by)
  if redis.call('HINCRBY', P .. hash, field, by) <= 0 then
    redis.call('HDEL', P .. hash, field)
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

local function unpark(user)
  if redis.call('SREM', P .. 'parked', user) == 1 then schedule(user) end
end

local function queue_up(id, user, seq)
  redis.call('ZADD', P .. 'waiting', seq, id)
  redis.call('ZADD', P .. 'waiting:' .. user, seq, id)
  schedule(user)
end

local function step_out(id, user)
  redis.call('ZREM', P .. 'waiting', id)
  redis.call('ZREM', P .. 'waiting:' .. user, id)
  schedule(user)
end

-- After a claim in fair order the user draws a new turn.
local function take_turn(user)
  if order() ~= 'fifo' then redis.call('ZREM', P .. 'ready', user) end
end

local function position(id)
  local rank = redis.call('ZRANK', P .. 'waiting', id)
  return rank and rank + 1 or nil
end
