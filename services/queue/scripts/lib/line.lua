-- Uses: counts
--
-- The lines: who waits, and whose turn it is. There is one for each kind and priority; its name is the
-- priority's level, a digit, and the kind.
--
-- Invariants. A queued task is in `waiting:{line}`, scored by its number of submission, and in exactly one of
-- its user's `line:{line}:{user}` (it has no key) and `lane:{line}:{user, key}` (it has one). A lane that has
-- tasks is an entry of the user's line, a line break and the key, scored by its first task; or it is in
-- `held:{kind, key}`, because that key was found at its limit, and counts in `held` and `blocked`. A user
-- with entries in his line is in exactly one of `ready:{line}` (scored by when it is his turn) and
-- `parked:{user}` (he was found at his limit; it names lines, each counts in `blocked`).
local MARK = '\n'
-- At most so many lanes come back when a key is free again; a key that has more is in `loose:{kind}`, and
-- each claim goes on with it.
local LET_IN = 8
local PER_LEVEL = 1e13

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

local function park(line, user)
  redis.call('ZREM', P .. 'ready:' .. line, user)
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

-- Whose turn is to be found anew: pairs of a line and a user. Users and keys of whom a task ended. Each
-- once, in the order in which it happened.
local moved, freed, freed_keys = {}, {}, {}

local function note(list, one)
  if list[one] then return end
  list[one] = true
  list[#list + 1] = one
end

-- Find the turns of users anew. FIFO: a user's turn is the number of his oldest waiting task. Fair: a number
-- drawn when he comes into the line and after each of his claims, so that users go in rounds.
local function find_turns(pairs_of)
  local turns, gone = {}, {}
  for _, both in ipairs(pairs_of) do
    local line, user = split(both)
    turns[line], gone[line] = turns[line] or {}, gone[line] or {}
    local head = redis.call('ZRANGE', user_line(line, user), '0', '0', 'WITHSCORES')[2]
    if not head then
      gone[line][#gone[line] + 1] = user
      if some_are_blocked() then unpark(line, user) end
    elseif not is_parked(line, user) then
      put(turns[line], order() == 'fifo' and head or redis.call('INCR', P .. 'turn'), user)
    end
  end
  for line, users in pairs(gone) do call_in_parts('ZREM', P .. 'ready:' .. line, users) end
  for line, given in pairs(turns) do
    if #given > 0 then call_in_parts('ZADD', P .. 'ready:' .. line, given, order() == 'fair' and 'NX') end
  end
end

-- Put a lane's entry where its first task belongs; nothing when it is held, or has no task.
local function place_lane(line, user, key, is_held)
  local head = redis.call('ZRANGE', lane_of(line, user, key), '0', '0', 'WITHSCORES')[2]
  local kind, level = kind_of(line), string.sub(line, 1, 1)
  if is_held then
    local held, member = P .. 'held:' .. pair(kind, key), pair(level, user)
    if head then return redis.call('ZADD', held, level * PER_LEVEL + head, member) end
    redis.call('ZREM', held, member)
    count('held', pair(kind, key), -1)
    return block(line, -1)
  end
  local own = user_line(line, user)
  if head then redis.call('ZADD', own, head, MARK .. key) else redis.call('ZREM', own, MARK .. key) end
end

local function is_held(line, user, key)
  return some_are_blocked() and
    redis.call('ZSCORE', P .. 'held:' .. pair(kind_of(line), key), pair(string.sub(line, 1, 1), user))
end

local function hold(line, user, key)
  redis.call('ZREM', user_line(line, user), MARK .. key)
  block(line, 1)
  count('held', pair(kind_of(line), key), 1)
  place_lane(line, user, key, true)
end

-- Whether something that a limit held back may start: the worker that frees it may not have its kind.
local unblocked = false

-- A key that holds back nothing any more is not looked at again.
when_none.held = function(both)
  local kind, key = split(both)
  redis.call('ZREM', P .. 'resting', both)
  redis.call('ZREM', P .. 'loose:' .. kind, key)
end

-- Let the first lanes that a key holds back into their users' lines.
local function let_in(kind, key)
  local held = P .. 'held:' .. pair(kind, key)
  local first = redis.call('ZRANGE', held, 0, LET_IN - 1)
  if #first > 0 then redis.call('ZREM', held, unpack(first)) end
  for _, member in ipairs(first) do
    local level, user = string.match(member, '^(%d)\n(.*)$')
    local line = level .. kind
    count('held', pair(kind, key), -1)
    block(line, -1)
    place_lane(line, user, key, false)
    note(moved, pair(line, user))
    unblocked = true
  end
  if #first == LET_IN and redis.call('EXISTS', held) == 1 then
    redis.call('ZADD', P .. 'loose:' .. kind, 0, key)
  else
    redis.call('ZREM', P .. 'loose:' .. kind, key)
  end
end

local function settle_line()
  if (#freed > 0 or #freed_keys > 0) and some_are_blocked() then
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
  end
  local users = moved
  moved, freed, freed_keys = {}, {}, {}
  find_turns(users)
end

-- The first number that came into a user's line: what comes behind it in the same script is not its head.
local lowest = {}

local function queue_up(t)
  local line, user, seq = t.line, t.user_id, t.seq
  redis.call('ZADD', P .. 'waiting:' .. line, seq, t.task_id)
  count('queued', line, 1)
  count('waiting_of', user, 1)
  local own, entry = user_line(line, user), t.task_id
  if t.key ~= '' then
    local lane = lane_of(line, user, t.key)
    redis.call('ZADD', lane, seq, t.task_id)
    -- Behind others nothing changes for the lane.
    if redis.call('ZRANK', lane, t.task_id) > 0 then return end
    if is_held(line, user, t.key) then return place_lane(line, user, t.key, true) end
    entry = MARK .. t.key
    redis.call('ZADD', own, seq, entry)
  else
    redis.call('ZADD', own, seq, t.task_id)
  end
  -- Behind others nothing changes for the user's turn.
  local both = pair(line, user)
  if lowest[both] and tonumber(seq) > lowest[both] then return end
  lowest[both] = tonumber(seq)
  if redis.call('ZRANK', own, entry) == 0 then note(moved, both) end
end

-- Put many tasks of a user that have no key behind others of his: `members` are numbers and ids.
local function queue_up_behind(line, user, members)
  call_in_parts('ZADD', P .. 'waiting:' .. line, members)
  call_in_parts('ZADD', user_line(line, user), members)
  count('queued', line, #members / 2)
  count('waiting_of', user, #members / 2)
end

local function step_out(t)
  local line, user = t.line, t.user_id
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

-- Its place among the waiting tasks of its kind: those of a higher priority are before it.
local function position(id, line)
  local rank = redis.call('ZRANK', P .. 'waiting:' .. line, id)
  if not rank then return nil end
  for level = 0, string.sub(line, 1, 1) - 1 do rank = rank + counted('queued', level .. kind_of(line)) end
  return rank + 1
end
