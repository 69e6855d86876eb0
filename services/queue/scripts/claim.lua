-- Uses: always, endings, brief
--
-- Give a worker the next tasks of its kinds, after ending those that it hands in.
--
-- request, worker: ids    most: how many at most   kinds: names of kinds
-- visibility [s]          kept: ended tasks kept a user, 0: any
-- known: how many of the kinds, the first ones, this process has registered
-- sorts: of how many sorts of tasks the times are kept, 0: any
-- acks: the arguments of end_attempt (lib/endings.lua) of each ended attempt, without what it does not have at their end
-- Reply, as MessagePack: {what became of each (see end_attempt), the claimed tasks (see claimed_reply), in how many
-- seconds more may start as text, "" for when something happens}; "unregistered" when limits are not known that
-- should be: then nothing was done. Repeated with the same request id it returns the same tasks, as far as they
-- are still the worker's.
local kept_limits = redis.call('HMGET', P .. 'limits', '', unpack(A.kinds))
limits = unpack_limits(kept_limits[1])
if not limits then return 'unregistered' end
for i = 1, A.known do
  if not kept_limits[i + 1] then return 'unregistered' end
end
local request_key = P .. 'request:' .. A.request
most_ended = A.kept

local everybody, kind_limits = all_limits(), {}
local function limits_of(kind)
  if not kind_limits[kind] then
    local packed
    for i, own in ipairs(A.kinds) do
      if own == kind then packed = kept_limits[i + 1] end
    end
    kind_limits[kind] = read_limits(packed or redis.call('HGET', P .. 'limits', kind))
  end
  return kind_limits[kind]
end

local function is_full_in_all()
  local limit = everybody.global_limit or 0
  return limit > 0 and redis.call('ZCARD', P .. 'processing') >= limit
end

-- Whether a limit in all, or of a kind, was reached before tasks ended.
local function was_full(ended)
  if is_full_in_all() then return true end
  for kind, number in pairs(ended) do
    local limit = limits_of(kind).limit or 0
    if limit > 0 and counted('running', kind) + number >= limit then return true end
  end
  return false
end

local ACK_FIELDS = 11
local became, ended = {}, {}
local function end_attempts()
  local ids = {}
  for i, ack in ipairs(A.acks) do ids[i] = ack[1] end
  look_for_listeners('task', ids)
  for i, ack in ipairs(A.acks) do
    local outcome, t = end_attempt(unpack(ack, 1, ACK_FIELDS))
    became[i] = outcome
    if outcome ~= 0 then ended[t.kind] = (ended[t.kind] or 0) + 1 end
  end
  -- This worker is likely to take the places itself: others are woken only for what was full.
  if was_full(ended) then unblocked = true end
  vacated = false
  settle()
end
if #A.acks > 0 then end_attempts() end

local function claimed_reply(t)
  return {t.task_id, t.user_id, t.kind, t.job, t.batch_id, t.attempt, t.created_at, t.started_at, t.kept,
    t.plan, t.since, t.token}
end

local most = A.most
if most == 0 then return cmsgpack.pack({became, {}, ''}) end
local earlier = redis.call('GET', request_key)
if earlier then
  local again, pairs_of = {}, cmsgpack.unpack(earlier)
  for i = 1, #pairs_of, 2 do
    local t = load_task(pairs_of[i])
    if t and t.token == pairs_of[i + 1] and t.status == 'processing' then
      again[#again + 1] = claimed_reply(t)
    end
  end
  return cmsgpack.pack({became, again, ''})
end
-- An operator has it claim nothing more.
if redis.call('SISMEMBER', P .. 'draining', A.worker) == 1 then return cmsgpack.pack({became, {}, ''}) end

local again_in
local function look_again_in(seconds)
  again_in = math.min(again_in or math.huge, math.max(seconds, 0))
end

local room = most
local user_limit = everybody.user_limit or 0
if (everybody.global_limit or 0) > 0 then
  room = math.min(most, everybody.global_limit - redis.call('ZCARD', P .. 'processing'))
end

-- The supply of this worker: its kinds that are not paused and have waiting tasks, and their lines
-- by priority. A line has the `turn` of what is at its head, as a number and as Redis has it
-- (`at`), nil when nothing of it may start; of a kind `first` is the line of the highest priority
-- that has a turn, `oldest` the one of the lowest turn, and `passed` how often that was passed
-- over.
local kinds, levels = {}, 0
local function open_lines()
  if #A.kinds == 0 then return end
  local paused = redis.call('SMISMEMBER', P .. 'paused', '', unpack(A.kinds))
  if paused[1] == 1 then return end
  local names, seen = {}, {}
  for _, kind in ipairs(A.kinds) do
    for _, level in ipairs(LEVELS) do names[#names + 1] = level .. kind end
  end
  local waiting = redis.call('HMGET', P .. 'queued', unpack(names))
  -- This request has counted the tasks that it gave back, and not written the counts yet.
  local come = added.queued or {}
  for i, kind in ipairs(A.kinds) do
    local lines, before = {}, #LEVELS * (i - 1)
    for level = 1, #LEVELS do
      local name = names[before + level]
      if paused[i + 1] == 0 and (waiting[before + level] or come[name]) then
        lines[#lines + 1] = {name = name, kind = kind, level = level}
        if not seen[level] then levels = levels + 1 end
        seen[level] = true
      end
    end
    if #lines > 0 then kinds[#kinds + 1] = {name = kind, limits = limits_of(kind), lines = lines} end
  end
end

-- Whether a task of the kind may start now, for any user; a kind that may not is closed for this script.
local function is_open(kind)
  if kind.closed then return false end
  local own, name = kind.limits, kind.name
  if (own.limit or 0) > 0 and counted('running', name) >= own.limit then
    kind.closed = true
  elseif own.rate then
    local wait = seconds_to_token(name, own.rate, own.rate_since)
    if wait > 0 then
      kind.closed = true
      look_again_in(wait)
    end
  end
  return not kind.closed
end

-- After this many passes the oldest task of a kind that may start is the next one. They are counted by its turn,
-- which it keeps while a limit holds it back.
local MOST_PASSED = 9
local passed, started, some_were_passed = {}, {}, nil
local function times_passed(at)
  local times = passed[at]
  if times then return times end
  if some_were_passed == nil then some_were_passed = redis.call('EXISTS', P .. 'passed') == 1 end
  times = some_were_passed and tonumber(redis.call('HGET', P .. 'passed', at) or '') or 0
  passed[at] = times
  return times
end

-- Find which lines of a kind come first, by their turns.
local function compare_lines(kind)
  local first, oldest, lowest_turn = nil, nil, math.huge
  if is_open(kind) then
    for _, line in ipairs(kind.lines) do
      local turn = line.turn
      if turn then
        first = first or line
        if turn < lowest_turn then oldest, lowest_turn = line, turn end
      end
    end
  end
  kind.first, kind.oldest = first, oldest
  kind.passed = oldest and levels > 1 and times_passed(oldest.at) or 0
end

-- Whether this many of a kind run with one user or one key, `both` with the kind. While fewer of the kind run
-- in all, that need not be read.
local function is_reached(limit, kind, hash, both)
  return limit and limit > 0 and counted('running', kind) >= limit and counted(hash, both) >= limit
end

local function at_limit(kind, user, both)
  if user_limit > 0 and counted('active', user) >= user_limit then return true end
  return is_reached(limits_of(kind).user_limit, kind, 'active_of', both)
end

-- Whether a key is at its limit; one that has no token is looked at again at its time.
local function is_key_full(kind, both)
  local own = limits_of(kind)
  if is_reached(own.key_limit, kind, 'keys', both) then return true end
  if not own.key_rate then return false end
  local wait = seconds_to_token(both, own.key_rate, own.key_rate_since)
  if wait > 0 then
    redis.call('ZADD', P .. 'resting', stamp(NOW + wait), both)
    return true
  end
  return false
end

local picked = {}
-- Count one that is to start, before the next is looked for. `of_user`, `of_key`: its kind with either.
local function pick(t, of_user, of_key)
  local kind, user = t.kind, t.user_id
  t.status = 'picked'
  count('active', user, 1)
  count('active_of', of_user, 1)
  count('running', kind, 1)
  count('queued', t.line, -1)
  count('waiting_of', user, -1)
  local own = limits_of(kind)
  if own.rate then take_token(kind, own.rate, own.rate_since) end
  if of_key then
    count('keys', of_key, 1)
    if own.key_rate then take_token(of_key, own.key_rate, own.key_rate_since) end
  end
  picked[#picked + 1] = t
end

local claimed, tokens, leases = {}, {}, {}
local function start_picked()
  local lease_end, ids = lease_until(NOW + A.visibility), {}
  for i, t in ipairs(picked) do
    ids[i] = t.task_id
    put(leases, lease_end, t.task_id)
  end
  -- Messages about batches and the line count them as running.
  add_to_skip_list(P .. 'processing', leases)
  look_for_listeners('task', ids)
  -- Numbers that are not given out are no loss.
  local token = #picked > 0 and redis.call('INCRBY', P .. 'tokens', whole(#picked)) - #picked or 0
  for i, t in ipairs(picked) do
    if t.unique ~= '' then free_unique(t, 'w') end
    set(t, 'status', 'processing', 'token', string.format('%d', token + i), 'worker_id', A.worker,
      'started_at', NOW_STAMP, 'attempt', whole(t.attempt + 1))
    note_change(t)
    tell('task', t.task_id, t, 'progress', snapshot)
    follow_in_batch(t, 'queued', 0)
    claimed[i] = claimed_reply(t)
    put(tokens, t.task_id, t.token)
  end
end

-- The line whose head starts next; nil when there is none.
local function choose()
  local best, urgent = nil, nil
  for _, kind in ipairs(kinds) do
    local first, oldest = kind.first, kind.oldest
    if first then
      if not best or first.level < best.level or (first.level == best.level and first.turn < best.turn) then
        best = first
      end
      if kind.passed >= MOST_PASSED and (not urgent or oldest.turn < urgent.turn) then urgent = oldest end
    end
  end
  return urgent or best
end

-- Count for each kind whether its oldest task is passed over by the one that starts.
local function note_passed(best)
  started[#started + 1] = best.at
  if levels < 2 then return end
  for _, kind in ipairs(kinds) do
    local oldest = kind.oldest
    if oldest and oldest.turn < best.turn then
      kind.passed = kind.passed + 1
      passed[oldest.at] = kind.passed
    end
  end
end

-- Behind the last start: what has started is passed over no more.
local function write_passed()
  for _, at in ipairs(started) do passed[at] = nil end
  local times = {}
  for at, number in pairs(passed) do
    if number > 0 then put(times, at, whole(number)) end
  end
  if some_were_passed ~= false then call_in_parts('HDEL', P .. 'passed', started) end
  call_in_parts('HSET', P .. 'passed', times)
end

-- In order of submission and while nobody stands aside, the lines themselves are the order: whole stretches of
-- them are taken at once, up to the first task that a limit of its user or key holds back.
local function take_stretch()
  if order() ~= 'fifo' or some_are_blocked() then return end
  local by_name, lanes, taken_of, taken_of_lane = {}, {}, {}, {}
  -- `part` of a line is read at a time, `place` is where its head stands there.
  local function look(line)
    if not line.ids or (line.place > #line.ids and #line.ids == 2 * line.part) then
      line.ids = redis.call('ZRANGE', P .. 'waiting:' .. line.name, whole(line.taken),
        whole(line.taken + line.part - 1), 'WITHSCORES')
      line.place = 1
    end
    line.at = line.ids[line.place + 1]
    line.turn = line.at and tonumber(line.at)
  end
  for _, kind in ipairs(kinds) do
    by_name[kind.name] = kind
    for i, line in ipairs(kind.lines) do
      -- Most are taken of the lines of the highest priority.
      line.taken, line.part = 0, i == 1 and math.ceil(room / #kinds) + 1 or 1
      look(line)
    end
    compare_lines(kind)
  end
  while #picked < room do
    local line = choose()
    if not line then break end
    local id = line.ids[line.place]
    local t = load_waiting(id, line.name)
    if t then
      local kind, user, key = t.kind, t.user_id, t.key
      local of_user, of_key = pair(kind, user), key ~= '' and pair(kind, key)
      if at_limit(kind, user, of_user) or (of_key and is_key_full(kind, of_key)) then break end
      note_passed(line)
      pick(t, of_user, of_key)
      line.taken = line.taken + 1
      if key == '' then
        local own = user_line(line.name, user)
        taken_of[own] = (taken_of[own] or 0) + 1
      else
        local lane = lane_of(line.name, user, key)
        if not taken_of_lane[lane] then lanes[#lanes + 1] = {lane, user_line(line.name, user), key} end
        taken_of_lane[lane] = (taken_of_lane[lane] or 0) + 1
      end
      note(moved, pair(line.name, user))
    else
      set_aside(id)
    end
    line.place = line.place + 2
    look(line)
    compare_lines(by_name[line.kind])
  end
  for _, kind in ipairs(kinds) do
    for _, line in ipairs(kind.lines) do
      if line.taken > 0 then
        redis.call('ZREMRANGEBYRANK', P .. 'waiting:' .. line.name, '0', whole(line.taken - 1))
      end
    end
  end
  -- First the lanes: behind what was taken, their entries are not in the way of what has no key.
  for _, one in ipairs(lanes) do
    redis.call('ZREMRANGEBYRANK', one[1], '0', whole(taken_of_lane[one[1]] - 1))
    place_entry(unpack(one))
  end
  for own, number in pairs(taken_of) do redis.call('ZREMRANGEBYRANK', own, '0', whole(number - 1)) end
  settle_line()
end

-- More users and lanes than this are not put aside in one script.
local moves_left = 500

-- Find the first of a line that may start, and put aside what stands before it and may not: its turn as Redis has it,
-- user and entry; nil when there is none.
local function find_head(of, line)
  local kind = of.name
  while is_open(of) do
    local first = redis.call('ZRANGE', P .. 'ready:' .. line, '0', '0', 'WITHSCORES')
    local user = first[1]
    if not user then return nil end
    if moves_left == 0 then
      look_again_in(0)
      return nil
    end
    if at_limit(kind, user, pair(kind, user)) then
      park(line, user, first[2])
    else
      local head = redis.call('ZRANGE', user_line(line, user), '0', '0', 'WITHSCORES')
      local entry = head[1]
      if not entry then
        redis.call('ZREM', P .. 'ready:' .. line, user)
      elseif string.sub(entry, 1, 1) == MARK and is_key_full(kind, pair(kind, string.sub(entry, 2))) then
        hold(line, user, string.sub(entry, 2), order() == 'fifo' and head[2] or first[2])
        -- In order of submission a user's turn is that of their next one.
        local following = redis.call('ZRANGE', user_line(line, user), '0', '0', 'WITHSCORES')[2]
        if not following then
          redis.call('ZREM', P .. 'ready:' .. line, user)
          keep_turn(line, user, first[2])
        elseif order() == 'fifo' then
          redis.call('ZADD', P .. 'ready:' .. line, following, user)
        end
      else
        return first[2], user, entry
      end
    end
    moves_left = moves_left - 1
  end
  return nil
end

-- Take the first task of a user out of the line; returns its id, and whether it waits in the line of all.
local function take(line, user, entry)
  local own, id = user_line(line, user), entry
  if string.sub(entry, 1, 1) == MARK then
    local key = string.sub(entry, 2)
    id = redis.call('ZPOPMIN', lane_of(line, user, key))[1]
    place_lane(line, user, key, false)
  else
    redis.call('ZREM', own, id)
  end
  local waited = id and redis.call('ZREM', P .. 'waiting:' .. line, id) == 1
  local head = redis.call('ZRANGE', own, '0', '0', 'WITHSCORES')[2]
  if not head then
    redis.call('ZREM', P .. 'ready:' .. line, user)
  else
    -- In fair order they draw a new turn.
    local turn = order() == 'fifo' and head or redis.call('INCR', P .. 'turn')
    redis.call('ZADD', P .. 'ready:' .. line, turn, user)
  end
  return id, waited
end

local function take_turns()
  local function look_at(kind)
    for _, line in ipairs(kind.lines) do
      line.at, line.user, line.entry = find_head(kind, line.name)
      line.turn = line.at and tonumber(line.at)
    end
    compare_lines(kind)
  end
  for _, kind in ipairs(kinds) do look_at(kind) end
  while #picked < room do
    local line = choose()
    if not line then break end
    local user = line.user
    note_passed(line)
    local id, waited = take(line.name, user, line.entry)
    local t = id and load_waiting(id, line.name)
    if t then
      pick(t, pair(t.kind, user), t.key ~= '' and pair(t.kind, t.key))
    elseif waited then
      count('queued', line.name, -1)
      count('waiting_of', user, -1)
      fail_in_batch(id, 'queued')
      set_aside(id)
    end
    for _, kind in ipairs(kinds) do
      local changed = kind.name == line.kind
      -- The start may have brought the user's tasks of other kinds to a limit.
      for _, other in ipairs(kind.lines) do changed = changed or other.user == user end
      if changed then look_at(kind) end
    end
  end
end

if room > 0 then open_lines() end
if #kinds > 0 then
  if some_are_blocked() then look_at_keys(is_key_full, look_again_in) end
  settle_line()
  take_stretch()
  if #picked < room then take_turns() end
  if some_are_blocked() then look_for_rest(look_again_in) end
  write_passed()
  start_picked()
end
-- Whether others may take what the ends have freed: this worker has asked for no more, or has not its kind.
local function is_left_for_others()
  local lines, own = redis.call('HKEYS', P .. 'queued'), {}
  if #lines == 0 or is_full_in_all() then return false end
  if #claimed == A.most then return true end
  for _, kind in ipairs(A.kinds) do own[kind] = true end
  for _, line in ipairs(lines) do
    if not own[kind_of(line)] then return true end
  end
  return false
end
unblocked = unblocked and is_left_for_others()
-- Also that nothing was found: the request, sent again and done late, must not find what came since.
redis.call('SET', request_key, cmsgpack.pack(tokens), 'EX', 60)
return cmsgpack.pack({became, claimed, again_in and #claimed < most and stamp(again_in) or ''})
