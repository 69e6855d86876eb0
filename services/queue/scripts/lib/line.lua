-- Uses: base
--
-- The line: who waits, and whose turn it is.
--
-- Invariant: a queued task is in `waiting` and in `waiting:{user}`, both scored by its number of
-- submission, and its user is in exactly one of `ready` (scored by when it is his turn) and
-- `parked` (he was found at his limit). Users without a queued task are in neither.

local kept_order
local function order()
  kept_order = kept_order or redis.call('HGET', P .. 'config', 'order') or 'fifo'
  return kept_order
end

local parked
local function some_are_parked()
  if parked == nil then parked = redis.call('SCARD', P .. 'parked') > 0 end
  return parked
end

local function park(user)
  redis.call('ZREM', P .. 'ready', user)
  redis.call('SADD', P .. 'parked', user)
  parked = true
end

-- Find the turns of users anew. FIFO: a user's turn is the number of his oldest waiting task. Fair:
-- a number drawn when he comes into the line and after each of his claims, so that users go in
-- rounds.
local function schedule(users)
  local turns, gone = {}, {}
  for _, user in ipairs(users) do
    local head = redis.call('ZRANGE', P .. 'waiting:' .. user, 0, 0, 'WITHSCORES')[2]
    if not head then
      gone[#gone + 1] = user
    elseif not (some_are_parked() and redis.call('SISMEMBER', P .. 'parked', user) == 1) then
      put(turns, order() == 'fifo' and head or redis.call('INCR', P .. 'turn'), user)
    end
  end
  call_in_parts('ZREM', P .. 'ready', gone)
  if #gone > 0 and some_are_parked() then call_in_parts('SREM', P .. 'parked', gone) end
  if #turns > 0 then call_in_parts('ZADD', P .. 'ready', turns, order() == 'fair' and 'NX') end
end

-- Whose turn is to be found anew, and who may be so because a task of his ended; each once, in the
-- order in which it happened.
local moved, freed = {}, {}

local function note(users, user)
  if users[user] then return end
  users[user] = true
  users[#users + 1] = user
end

local function settle_line()
  if #freed > 0 and some_are_parked() then
    for _, user in ipairs(freed) do
      if redis.call('SREM', P .. 'parked', user) == 1 then note(moved, user) end
    end
  end
  local users = moved
  moved, freed = {}, {}
  schedule(users)
end

local function queue_up(id, user, seq)
  redis.call('ZADD', P .. 'waiting', seq, id)
  redis.call('ZADD', P .. 'waiting:' .. user, seq, id)
  -- Behind others nothing changes for the user's turn.
  if redis.call('ZRANK', P .. 'waiting:' .. user, id) == 0 then note(moved, user) end
end

local function step_out(id, user)
  redis.call('ZREM', P .. 'waiting', id)
  redis.call('ZREM', P .. 'waiting:' .. user, id)
  note(moved, user)
end

local function position(id)
  local rank = redis.call('ZRANK', P .. 'waiting', id)
  return rank and rank + 1 or nil
end
