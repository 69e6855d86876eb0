-- Uses: always, moves, rates
--
-- Give a worker the next tasks of its kinds, after ending those that it hands in.
--
-- request, worker: ids    most: how many at most   kinds: names of kinds
-- visibility [s]          kept: ended tasks kept a user, 0: any
-- known: how many of the kinds, the first ones, this process has registered
-- acks: {id, token, outcome} of each ended attempt, and result, error, fragment, delay [s] and report, the
-- fragment of a last report that was not told, where it has them
-- Reply: {what became of each (see end_attempt), the claimed tasks (see claimed_reply), in how many
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

-- Read the fields that the start and the end of a task need; nil when they cannot be read, or say that it
-- stands in another line. These two are most of the reading that this script does, so they look at no field
-- that they do not need.
local function load_waiting(id, line)
  local key = task_key(id)
  local known = records[key]
  -- One that was handed in by this request, or that it has picked already.
  if known then return known.status == 'queued' and known.line == line and known or nil end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'attempt', 'event_seq', 'percent', 'kept', 'since')
  if v[1] ~= 'queued' then return nil end
  local user, batch, created, seq, kind, level, of, _, _, _, unique, plan, _, _, job = read_made(v[2])
  if not (user and level .. kind == line and tonumber(seq) and is_whole(v[3] or '0') and is_whole(v[4] or '1')
      and is_percentage(v[5] or '0')) then return nil end
  return adopt({
    _key = key, _changes = false, _numbered = false, task_id = id, status = v[1], made = v[2],
    attempt = v[3] or '0', event_seq = v[4] or '1', user_id = user, batch_id = batch, created_at = created,
    seq = seq, kind = kind, key = of, unique = unique, plan = plan, job = job, line = line, token = '',
    started_at = '', percent = '0', kept = v[6] or '', since = v[7] or '',
  }, TASK)
end

local function load_claimed(id)
  local key = task_key(id)
  if records[key] then return records[key] end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'token', 'event_seq', 'started_at', 'revived',
    'percent', 'kept')
  if not v[1] then return nil end
  local user, batch, _, _, kind, level, of, _, _, notify, unique, _, _, _, job = read_made(v[2])
  if not (user and STATES[v[1]] and is_whole(v[4] or '1') and is_percentage(v[7] or '0')) then return nil end
  return adopt({
    _key = key, _changes = false, _numbered = false, task_id = id, status = v[1], made = v[2],
    token = v[3] or '', event_seq = v[4] or '1', started_at = v[5], revived = v[6] or '0',
    percent = v[7] or '0', kept = v[8] or '', user_id = user, batch_id = batch, kind = kind, key = of,
    notify = notify, unique = unique, job = job, line = level .. kind, ended_at = '', result = '',
    fragment = nil, error = nil,
  }, TASK)
end

local AGAIN = {error = true, retry = true}

-- The owner ends its task. Returns what became of it: its state when it has ended, the outcome of the attempt
-- when another one follows, 0 when the token is not the one of the running attempt. Repeated, it returns the same.
local function end_attempt(ack)
  local t = (AGAIN[ack.outcome] and load_task or load_claimed)(ack.id)
  if not t or ack.token == '' then return 0 end
  if t.token ~= ack.token then return t.closed == ack.token and ack.outcome or 0 end
  if t.status ~= 'processing' then return t.status end
  if ack.report then tell_last(t, ack.report) end
  if AGAIN[ack.outcome] then
    give_back(t, ack.outcome, ack.error or '', NOW + (ack.delay or 0), ack.token, ack.fragment or '')
  else
    end_task(t, ack.outcome, ack.token, ack.result or '', ack.error or '', ack.fragment or '')
  end
  return ENDED[t.status] and t.status or ack.outcome
end

local everybody, kind_limits = all_limits(), {}
local function limits_of(kind)
  kind_limits[kind] = kind_limits[kind] or read_limits(redis.call('HGET', P .. 'limits', kind))
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

local became, ended = {}, {}
local function end_attempts()
  local ids = {}
  for i, ack in ipairs(A.acks) do ids[i] = ack.id end
  look_for_listeners('task', ids)
  for i, ack in ipairs(A.acks) do
    became[i] = end_attempt(ack)
    local t = records[task_key(ack.id)]
    if became[i] ~= 0 and t then ended[t.kind] = (ended[t.kind] or 0) + 1 end
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
if most == 0 then return {became, {}, ''} end
local earlier = redis.call('GET', request_key)
if earlier then
  local again, pairs_of = {}, cmsgpack.unpack(earlier)
  for i = 1, #pairs_of, 2 do
    local t = load_task(pairs_of[i])
    if t and t.token == pairs_of[i + 1] and t.status == 'processing' then
      again[#again + 1] = claimed_reply(t)
    end
  end
  return {became, again, ''}
end

local again_in
local function look_again_in(seconds)
  again_in = math.min(again_in or math.huge, math.max(seconds, 0))
end

local room = most
local user_limit = everybody.user_limit or 0
if (everybody.global_limit or 0) > 0 then
  room = math.min(most, everybody.global_limit - redis.call('ZCARD', P .. 'processing'))
end

-- What this worker may take from: its kinds that are not paused and have waiting tasks, and their lines by
-- priority. A line has the `turn` of what is at its head, nil when nothing of it may start; of a kind `first`
-- is the line of the highest priority that has a turn, `oldest` the one of the lowest turn.
local kinds, levels = {}, 0
local function add_lines(kind, waiting, seen)
  local own = {name = kind, lines = {}}
  for level = 0, 4 do
    if waiting[level + 1] then
      own.lines[#own.lines + 1] = {name = level .. kind, kind = kind, level = level}
      if not seen[level] then levels = levels + 1 end
      seen[level] = true
    end
  end
  if #own.lines > 0 then kinds[#kinds + 1] = own end
end

local function open_lines()
  if #A.kinds == 0 or redis.call('SISMEMBER', P .. 'paused', '') == 1 then return end
  local paused = redis.call('SMISMEMBER', P .. 'paused', unpack(A.kinds))
  local names, seen = {}, {}
  for _, kind in ipairs(A.kinds) do
    for level = 0, 4 do names[#names + 1] = level .. kind end
  end
  local waiting = redis.call('HMGET', P .. 'queued', unpack(names))
  -- This request has counted the tasks that it gave back, and not written the counts yet.
  local come = added.queued or {}
  for i, name in ipairs(names) do waiting[i] = waiting[i] or come[name] end
  for i, kind in ipairs(A.kinds) do
    kind_limits[kind] = read_limits(kept_limits[i + 1])
    if paused[i] == 0 then add_lines(kind, {unpack(waiting, 5 * i - 4, 5 * i)}, seen) end
  end
end

-- Whether a task of the kind may start now, whoever's it is; a kind that may not is closed for this script.
local closed = {}
local function is_open(kind)
  if closed[kind] then return false end
  local own = kind_limits[kind]
  if (own.limit or 0) > 0 and counted('running', kind) >= own.limit then
    closed[kind] = true
  elseif own.rate then
    local wait = seconds_to_token(kind, own.rate, own.rate_since)
    if wait > 0 then
      closed[kind] = true
      look_again_in(wait)
    end
  end
  return not closed[kind]
end

-- Find which lines of a kind come first, by their turns.
local function compare_lines(kind)
  local first, oldest = nil, nil
  if is_open(kind.name) then
    for _, line in ipairs(kind.lines) do
      local turn = line.turn
      if turn then
        first = first or line
        if not oldest or turn < oldest.turn then oldest = line end
      end
    end
  end
  kind.first, kind.oldest = first, oldest
end

-- `both`: the kind and the user, as here the kind and the key.
local function at_limit(kind, user, both)
  if user_limit > 0 and counted('active', user) >= user_limit then return true end
  local own = kind_limits[kind].user_limit or 0
  return own > 0 and counted('active_of', both) >= own
end

-- Whether a key is at its limit; one that has no token is looked at again at its time.
local function is_key_full(kind, both)
  local own = kind_limits[kind]
  if (own.key_limit or 0) > 0 and counted('keys', both) >= own.key_limit then return true end
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
  local own = kind_limits[kind]
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
  for i, t in ipairs(picked) do ids[i] = t.task_id end
  look_for_listeners('task', ids)
  -- Numbers that are not given out are no loss.
  local token = #picked > 0 and redis.call('INCRBY', P .. 'tokens', #picked) - #picked or 0
  for i, t in ipairs(picked) do
    if t.unique ~= '' then free_unique(t, 'w') end
    set(t, 'status', 'processing', 'token', tostring(token + i), 'worker_id', A.worker,
      'started_at', NOW_STAMP, 'attempt', tostring(t.attempt + 1))
    tell('task', t.task_id, t, 'progress', snapshot)
    follow_in_batch(t, 'queued', 0)
    claimed[i] = claimed_reply(t)
    put(tokens, t.task_id, t.token)
    put(leases, lease_end, t.task_id)
  end
  call_in_parts('ZADD', P .. 'processing', leases)
end

-- After this many passes the oldest task of a kind that may start is the next one. They are counted by its turn,
-- which it keeps while a limit holds it back.
local MOST_PASSED = 9
local passed, started, some_were_passed = {}, {}, nil
local function times_passed(turn)
  if passed[turn] then return passed[turn] end
  if some_were_passed == nil then some_were_passed = redis.call('EXISTS', P .. 'passed') == 1 end
  passed[turn] = some_were_passed and tonumber(redis.call('HGET', P .. 'passed', turn) or '') or 0
  return passed[turn]
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
      if levels > 1 and times_passed(oldest.turn) >= MOST_PASSED and (not urgent or oldest.turn < urgent.turn) then
        urgent = oldest
      end
    end
  end
  return urgent or best
end

-- Count for each kind whether its oldest task is passed over by the one that starts.
local function note_passed(best)
  started[#started + 1] = best.turn
  if levels < 2 then return end
  for _, kind in ipairs(kinds) do
    local oldest = kind.oldest
    if oldest and oldest.turn < best.turn then passed[oldest.turn] = times_passed(oldest.turn) + 1 end
  end
end

-- Behind the last start: what has started is passed over no more.
local function write_passed()
  for _, turn in ipairs(started) do passed[turn] = nil end
  local times = {}
  for turn, number in pairs(passed) do
    if number > 0 then put(times, turn, number) end
  end
  if some_were_passed ~= false then call_in_parts('HDEL', P .. 'passed', started) end
  call_in_parts('HSET', P .. 'passed', times)
end

-- In order of submission and while nobody stands aside, the lines themselves are the order: whole stretches of
-- them are taken at once, up to the first task that a limit of its user or key holds back.
local function take_stretch()
  if order() ~= 'fifo' or some_are_blocked() then return end
  local lines, by_name, lanes, taken_of, taken_of_lane = 0, {}, {}, {}, {}
  for _, kind in ipairs(kinds) do lines = lines + #kind.lines end
  -- Few are taken of each of many lines.
  local part = math.ceil(2 * room / lines)
  local function look(line)
    if not line.ids or (line.at > #line.ids and #line.ids == 2 * part) then
      local from = line.taken or 0
      line.ids = redis.call('ZRANGE', P .. 'waiting:' .. line.name, from, from + part - 1, 'WITHSCORES')
      line.at, line.taken = 1, from
    end
    line.turn = tonumber(line.ids[line.at + 1])
  end
  for _, kind in ipairs(kinds) do
    by_name[kind.name] = kind
    for _, line in ipairs(kind.lines) do look(line) end
    compare_lines(kind)
  end
  while #picked < room do
    local line = choose()
    if not line then break end
    local id = line.ids[line.at]
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
        if not taken_of_lane[lane] then put(lanes, line.name, t) end
        taken_of_lane[lane] = (taken_of_lane[lane] or 0) + 1
      end
      note(moved, pair(line.name, user))
    else
      set_aside(id)
    end
    line.at = line.at + 2
    look(line)
    compare_lines(by_name[line.kind])
  end
  for _, kind in ipairs(kinds) do
    for _, line in ipairs(kind.lines) do
      if line.taken > 0 then
        redis.call('ZREMRANGEBYRANK', P .. 'waiting:' .. line.name, 0, line.taken - 1)
      end
    end
  end
  -- First the lanes: behind what was taken, their entries are not in the way of what has no key.
  for lane, number in pairs(taken_of_lane) do redis.call('ZREMRANGEBYRANK', lane, 0, number - 1) end
  for i = 1, #lanes, 2 do place_lane(lanes[i], lanes[i + 1].user_id, lanes[i + 1].key, false) end
  for own, number in pairs(taken_of) do redis.call('ZREMRANGEBYRANK', own, 0, number - 1) end
  settle_line()
end

-- More users and lanes than this are not put aside in one script.
local moves_left = 500

-- Find the first of a line that may start, and put aside what stands before it and may not: its turn, user and
-- entry; nil when there is none.
local function find_head(line)
  local kind = kind_of(line)
  while is_open(kind) do
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
        return tonumber(first[2]), user, entry
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
    for _, line in ipairs(kind.lines) do line.turn, line.user, line.entry = find_head(line.name) end
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
return {became, claimed, again_in and #claimed < most and stamp(again_in) or ''}
