-- Uses: counts
--
-- The lines: who waits, and whose turn it is. There is one for each kind and priority; its name is the
-- priority's level, a digit, and the kind.
--
-- Invariants. A queued task is in `waiting:{line}`, scored by its number of submission, and in exactly one of
-- its user's `line:{line}:{user}` (it has no key) and `lane:{line}:{user, key}` (it has one). A lane that has
-- tasks is an entry of the user's line, a line break and the key, scored by its first task; or it is in
-- `held:{kind, key}`, because that key was found at its limit, and counts in `held` and `blocked`. A user
-- with entries in their line is in exactly one of `ready:{line}` (scored by when it is their turn) and
-- `parked:{user}` (they were found at their limit; it names lines, each counts in `blocked`). In fair order
-- who is out of `ready` because of a limit has the turn still, in `kept_turns`.
local MARK = '\n'
-- This many lanes return when a key is free, and the first of each lower priority; a key that has more is in
-- `loose:{kind}`, and each claim goes on with it.
local LET_IN = 8
local PER_LEVEL = 1e13
local LEVELS = {'0', '1', '2', '3', '4'}

local function user_line(line, user) return P .. 'line:' .. line .. ':' .. user end
local function lane_of(line, user, key) return P .. 'lane:' .. line .. ':' .. pair(user, key) end
local function kind_of(line) return string.sub(line, 2) end

local LIMITS = {user_limit = 'number', global_limit = 'number', limit = 'number', key_limit = 'number',
  rate = 'table', key_rate = 'table', order = 'string', rate_since = 'number', key_rate_since = 'number'}

-- The limits over all kinds or those of one kind, as `register` and `set_limits` keep them; nil when they cannot
-- be read. One that is not as it must be is left out; a later version may keep others.
local function unpack_limits(packed)
  local readable, found = pcall(cmsgpack.unpack, packed)
  if not readable or type(found) ~= 'table' then return nil end
  for name, wanted in pairs(LIMITS) do
    local value = found[name]
    if value and type(value) ~= wanted then found[name] = nil end
    if type(value) == 'table' and not (tonumber(value[1]) and tonumber(value[2])) then found[name] = nil end
  end
  return found
end

local function read_limits(packed)
  return packed and unpack_limits(packed) or {}
end

local limits
local function all_limits()
  limits = limits or read_limits(redis.call('HGET', P .. 'limits', ''))
  return limits
end

local function order() return all_limits().order or 'fifo' end

local blocked
local function some_are_blocked()
  if blocked == nil then blocked = redis.call('EXISTS', P .. 'blocked') == 1 end
  return blocked
end

local function block(line, by)
  blocked = true
  count('blocked', line, by)
end

-- In fair order who waits for a limit keeps the turn.
local function keep_turn(line, user, turn)
  if order() == 'fair' then redis.call('HSET', P .. 'kept_turns', pair(line, user), turn) end
end

local function take_kept_turn(both)
  if not some_are_blocked() then return nil end
  local turn = redis.call('HGET', P .. 'kept_turns', both)
  if turn then redis.call('HDEL', P .. 'kept_turns', both) end
  return turn
end

local function park(line, user, turn)
  redis.call('ZREM', P .. 'ready:' .. line, user)
  keep_turn(line, user, turn)
  redis.call('SADD', P .. 'parked:' .. user, line)
  redis.call('SADD', P .. 'parked', user)
  block(line, 1)
end

local function is_parked(line, user)
  return some_are_blocked() and redis.call('SISMEMBER', P .. 'parked:' .. user, line) == 1
end

local function unpark(line, user)
  if redis.call('SREM', P .. 'parked:' .. user, line) == 0 then return end
  if redis.call('EXISTS', P .. 'parked:' .. user) == 0 then redis.call('SREM', P .. 'parked', user) end
  block(line, -1)
end

-- `moved`: line and user pairs whose turn must be found again. `freed`, `freed_keys`: users and keys whose task
-- ended. Each once, in the order in which it happened.
local moved, freed, freed_keys = {}, {}, {}

local function note(list, one)
  if list[one] then return end
  list[one] = true
  list[#list + 1] = one
end

-- While nobody stands aside, nobody can come back.
local function free(list, one)
  if some_are_blocked() then note(list, one) end
end

-- The count of passed turns is forgotten with it.
local function forget_turn_of(line, user)
  local turn = redis.call('ZSCORE', P .. 'ready:' .. line, user) or take_kept_turn(pair(line, user))
  if turn then redis.call('HDEL', P .. 'passed', turn) end
end

-- Find the turns of users again. FIFO: a user's turn is the number of their oldest waiting task. Fair: a number
-- drawn when they come into the line and after each of their claims, so that users go in rounds.
local function find_turns(pairs_of)
  local turns, gone = {}, {}
  for _, both in ipairs(pairs_of) do
    local line, user = split(both)
    turns[line], gone[line] = turns[line] or {}, gone[line] or {}
    local head = redis.call('ZRANGE', user_line(line, user), '0', '0', 'WITHSCORES')[2]
    if not head then
      gone[line][#gone[line] + 1] = user
      if some_are_blocked() then unpark(line, user) end
      if order() == 'fair' then forget_turn_of(line, user) end
    elseif not is_parked(line, user) then
      put(turns[line], order() == 'fifo' and head or take_kept_turn(both) or redis.call('INCR', P .. 'turn'), user)
    end
  end
  for line, users in pairs(gone) do call_in_parts('ZREM', P .. 'ready:' .. line, users) end
  for line, given in pairs(turns) do
    if #given > 0 then call_in_parts('ZADD', P .. 'ready:' .. line, given, order() == 'fair' and 'NX') end
  end
end

-- Put the entry of a lane into its user's line where its first task belongs, or take it out when there is none.
local function place_entry(lane, own, key)
  local head = redis.call('ZRANGE', lane, '0', '0', 'WITHSCORES')[2]
  if head then redis.call('ZADD', own, head, MARK .. key) else redis.call('ZREM', own, MARK .. key) end
end

-- The same of one that may be held.
local function place_lane(line, user, key, is_held)
  if not is_held then return place_entry(lane_of(line, user, key), user_line(line, user), key) end
  local head = redis.call('ZRANGE', lane_of(line, user, key), '0', '0', 'WITHSCORES')[2]
  local kind, level = kind_of(line), string.sub(line, 1, 1)
  local held, member = P .. 'held:' .. pair(kind, key), pair(level, user)
  if not head then
    redis.call('ZREM', held, member)
    count('held', pair(kind, key), -1)
    block(line, -1)
  elseif order() == 'fifo' then
    -- In fair order it stands where its user's turn was when it was held.
    redis.call('ZADD', held, level * PER_LEVEL + head, member)
  end
end

local function is_held(line, user, key)
  return some_are_blocked() and
    redis.call('ZSCORE', P .. 'held:' .. pair(kind_of(line), key), pair(string.sub(line, 1, 1), user))
end

local function hold(line, user, key, turn)
  local kind, level = kind_of(line), string.sub(line, 1, 1)
  redis.call('ZREM', user_line(line, user), MARK .. key)
  block(line, 1)
  count('held', pair(kind, key), 1)
  redis.call('ZADD', P .. 'held:' .. pair(kind, key), level * PER_LEVEL + turn, pair(level, user))
end

-- Whether a blocked task may now start; the worker that freed it may not run its kind.
local unblocked = false

-- A key that holds back nothing any more is not looked at again.
when_none.held = function(both)
  local kind, key = split(both)
  redis.call('ZREM', P .. 'resting', both)
  redis.call('ZREM', P .. 'loose:' .. kind, key)
end

-- Let one lane that a key holds back into its user's line.
local function let_in_lane(kind, key, member)
  local level, user = split(member)
  local line = level .. kind
  redis.call('ZREM', P .. 'held:' .. pair(kind, key), member)
  count('held', pair(kind, key), -1)
  block(line, -1)
  place_lane(line, user, key, false)
  note(moved, pair(line, user))
  unblocked = true
end

-- Let the first lanes that a key holds back into their users' lines. The first of each lower priority comes
-- too: else it would never be passed over, however long it waits.
local function let_in(kind, key)
  local held = P .. 'held:' .. pair(kind, key)
  local first = redis.call('ZRANGE', held, 0, LET_IN - 1)
  if #first == LET_IN then
    for level = string.sub(first[LET_IN], 1, 1) + 1, 4 do
      local from, below = level * PER_LEVEL, '(' .. string.format('%.0f', (level + 1) * PER_LEVEL)
      first[#first + 1] = redis.call('ZRANGEBYSCORE', held, from, below, 'LIMIT', 0, 1)[1]
    end
  end
  for _, member in ipairs(first) do let_in_lane(kind, key, member) end
  if #first >= LET_IN and redis.call('EXISTS', held) == 1 then
    redis.call('ZADD', P .. 'loose:' .. kind, 0, key)
  else
    redis.call('ZREM', P .. 'loose:' .. kind, key)
  end
end

local function settle_line()
  for _, user in ipairs(freed) do
    local lines = redis.call('SMEMBERS', P .. 'parked:' .. user)
    table.sort(lines)
    for _, line in ipairs(lines) do
      unpark(line, user)
      note(moved, pair(line, user))
      unblocked = true
    end
  end
  for _, both in ipairs(freed_keys) do let_in(split(both)) end
  local users = moved
  moved, freed, freed_keys = {}, {}, {}
  find_turns(users)
end

-- Whether it is the first member of a sorted set.
local function is_first(zset, member) return redis.call('ZRANGE', zset, '0', '0')[1] == member end

-- Add the number of a task to one of its lines. Returns whether it is the first there: a new task has the highest
-- number of all.
local function add_in_order(zset, t, member)
  redis.call('ZADD', zset, t.seq, member)
  return redis.call('ZCARD', zset) == 1 or (t.status ~= '' and is_first(zset, member))
end

local function queue_up(t)
  local line, user = t.line, t.user_id
  redis.call('ZADD', P .. 'waiting:' .. line, t.seq, t.task_id)
  count('queued', line, 1)
  count('waiting_of', user, 1)
  local entry = t.task_id
  if t.key ~= '' then
    -- Behind others nothing changes for the lane.
    if not add_in_order(lane_of(line, user, t.key), t, t.task_id) then return end
    if is_held(line, user, t.key) then return place_lane(line, user, t.key, true) end
    entry = MARK .. t.key
  end
  -- Behind others nothing changes for the user's turn.
  if add_in_order(user_line(line, user), t, entry) then note(moved, pair(line, user)) end
end

-- Put many tasks of a user that have no key behind others of theirs: `members` are numbers and ids.
local function queue_up_behind(line, user, members)
  call_in_parts('ZADD', P .. 'waiting:' .. line, members)
  call_in_parts('ZADD', user_line(line, user), members)
  count('queued', line, #members / 2)
  count('waiting_of', user, #members / 2)
end

local function step_out(t)
  local line, user = t.line, t.user_id
  if order() == 'fifo' then redis.call('HDEL', P .. 'passed', t.seq) end
  redis.call('ZREM', P .. 'waiting:' .. line, t.task_id)
  count('queued', line, -1)
  count('waiting_of', user, -1)
  if t.key == '' then
    redis.call('ZREM', user_line(line, user), t.task_id)
  else
    redis.call('ZREM', lane_of(line, user, t.key), t.task_id)
    place_lane(line, user, t.key, is_held(line, user, t.key))
  end
  note(moved, pair(line, user))
end

local function waiting_above(line)
  local sum, kind = 0, kind_of(line)
  for level = 1, tonumber(string.sub(line, 1, 1)) do sum = sum + counted('queued', LEVELS[level] .. kind) end
  return sum
end

-- Its place among the waiting tasks of its kind: those of a higher priority are before it.
local function position(id, line)
  local rank = redis.call('ZRANK', P .. 'waiting:' .. line, id)
  if not rank then return nil end
  return rank + 1 + waiting_above(line)
end

-- The position of the last task of a line.
local function last_position(line) return counted('queued', line) + waiting_above(line) end
