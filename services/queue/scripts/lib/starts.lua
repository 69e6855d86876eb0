-- Uses: made, samples, line, rates
--
-- When a waiting task starts, as samples (see samples.lua): the latest of the starts that each limit alone would allow.
-- Each limit over running tasks is a set of slots: all tasks, those of its kind, its user, its user and kind, its key,
-- and the places of the workers that have its kind. Its slots are taken, as they are free, by what is before the task
-- under that limit (list scheduling: Graham, "Bounds on multiprocessing timing anomalies", 1969).
--
-- What is before a task is counted in O(log n) of each line, and no more is looked at than the numbers below say:
-- - Higher priorities go before, but no more younger ones than may pass over older ones (MOST_PASSED of claim.lua).
-- - In order of submission: all that is older. In fair order: of each other user as many as the task has tasks of its
--   own user before it, and one more of those whose turn is sooner; with many users this is the mean of some.
-- - Under a limit of users (in order of submission) and of keys: who has more to do than the others need time for keeps
--   their slots busy meanwhile, and is left out with these slots.
-- - Delayed tasks that fall due until then and go before.
-- Later submissions of a higher priority are not foreseen.
local MOST_RUNS, MOST_SLOTS, MOST_GROUPS, MOST_LANES, MOST_LATE, MOST_WORKERS = 32, 16, 8, 16, 12, 200
-- A worker that says nothing for so long counts no more [s]: SILENT_SECONDS of kinds.py.
local SILENT = 30
-- As in claim.lua.
local MOST_PASSED_OVER = 9

-- The limits of a kind, and whether it is paused: the same for all its waiting tasks. Read once.
local held_by = {}
local function holds(kind)
  if not held_by[kind] then
    local paused = redis.call('SMISMEMBER', P .. 'paused', '', kind)
    held_by[kind] = read_limits(redis.call('HGET', P .. 'limits', kind))
    held_by[kind].paused = paused[1] == 1 or paused[2] == 1
  end
  return held_by[kind]
end

local function make_forecast()
  local samples, usuals = make_samples(), {}

  local function usual(kind, expected)
    local known = pace_of(kind)
    local name = known and kind or pair(kind, expected)
    if not usuals[name] then usuals[name] = samples.usual_of(known, tonumber(expected)) end
    return usuals[name]
  end

  -- The running tasks: of many the first by the ends of their leases.
  local runs
  local function read_run(id, number)
    local found = redis.pcall('HMGET', task_key(id), 'made', 'started_at', 'worker_id', 'fragment')
    local made = found[1] and read_made(found[1])
    local started = tonumber(found[2] or '')
    if not (made and started) then return nil end
    local run = {user = made[AT.user_id], kind = made[AT.kind], key = made[AT.key], batch = made[AT.batch_id],
      worker = found[3] or '', known = pace_of(made[AT.kind]) ~= nil}
    local function told(field) return tonumber(string.match(found[4] or '', '"' .. field .. '":(-?[%d%.eE+-]+)') or '') end
    local own, elapsed, left = usual(run.kind, made[AT.expected]), told('elapsed_time'), told('remaining_time')
    local mu, sigma, age = own.mu, own.sigma, math.max(NOW - started, 0)
    if elapsed and left then
      -- Its own estimate. When that was made is reckoned from the start, by the clock of Redis.
      local low, high = told('remaining_low'), told('remaining_high')
      left = math.max(left, 0.01)
      mu, age, run.known = math.log(left), math.max(age - elapsed, 0), true
      -- Of a normal distribution the 10th and 90th percentile are 2.563 standard deviations apart.
      if low and high and high > 0 then sigma = math.log(high / math.max(math.min(low, high), left / 20, 0.01)) / 2.563 end
    end
    run.rest = samples.rest(mu, math.min(sigma, 2), age, 25 + number % 14)
    return run
  end
  local function all_runs()
    if runs then return runs end
    runs = {}
    local number = redis.call('ZCARD', P .. 'processing')
    for i, id in ipairs(redis.call('ZRANGE', P .. 'processing', '0', whole(MOST_RUNS - 1))) do
      runs[#runs + 1] = read_run(id, i)
    end
    runs.are_all = number <= MOST_RUNS
    return runs
  end

  -- The workers there are: the kinds of each, and its slots.
  local crew
  local function all_workers()
    if crew then return crew end
    crew = {}
    local found = redis.call('HGETALL', P .. 'workers')
    for i = 1, math.min(#found, 2 * MOST_WORKERS), 2 do
      local seen, info = string.match(found[i + 1], '^(%S+) (.*)$')
      local readable, told = pcall(cjson.decode, info or '')
      local kinds = readable and type(told) == 'table' and type(told.kinds) == 'table' and told.kinds or {}
      local more = kinds[1] and type(told.info) == 'table' and told.info or {}
      if (tonumber(seen or '') or 0) + SILENT >= NOW then
        local one = {id = found[i], slots = tonumber(more.slots) or tonumber(more.concurrency) or 1}
        for _, kind in ipairs(kinds) do one[pair(kind, '')] = true end
        crew[#crew + 1] = one
      end
    end
    return crew
  end

  -- The slots of the workers that have a kind, or both kinds.
  local shared_slots = {}
  local function slots_of(kind, other)
    local both = pair(kind, other)
    if not shared_slots[both] then
      local sum = 0
      for _, one in ipairs(all_workers()) do
        if one[pair(kind, '')] and one[pair(other, '')] then sum = sum + one.slots end
      end
      shared_slots[both] = sum
    end
    return shared_slots[both]
  end

  -- The lines that have waiting tasks of kinds that are not paused and have workers.
  local lines
  local function all_lines()
    if lines then return lines end
    lines = {}
    local names, seen = redis.call('HKEYS', P .. 'queued'), {}
    for name in pairs(added.queued or {}) do names[#names + 1] = name end
    for _, name in ipairs(names) do
      local number, kind = not seen[name] and counted('queued', name) or 0, kind_of(name)
      seen[name] = true
      if number > 0 and slots_of(kind, kind) > 0 and not holds(kind).paused then
        lines[#lines + 1] = {name = name, kind = kind, level = string.sub(name, 1, 1), number = number}
      end
    end
    return lines
  end

  local function older(zset, t)
    if not t.seq then return redis.call('ZCARD', zset) end
    return redis.call('ZCOUNT', zset, '-inf', '(' .. t.seq)
  end

  -- The older tasks of a user in a line. In the place of a lane stands its first task: the others of some are counted.
  local function older_of_user(line, user, t)
    local own = user_line(line, user)
    local entries = older(own, t)
    if entries == 0 then return 0 end
    local looked, more = redis.call('ZRANGE', own, '0', whole(math.min(entries, MOST_LANES) - 1)), 0
    for _, entry in ipairs(looked) do
      if string.sub(entry, 1, 1) == MARK then
        more = more + older(lane_of(line, user, string.sub(entry, 2)), t) - 1
      end
    end
    return entries + more * entries / #looked
  end

  -- In fair order: the tasks of a line that have their turns before a task that is the `index`-th of its user.
  local function sooner(line, t, index)
    local ready, is_own = P .. 'ready:' .. line, line == t.line
    local turn = redis.call('ZSCORE', P .. 'ready:' .. t.line, t.user_id)
    local others = redis.call('ZCARD', ready)
    local earlier = turn and redis.call('ZCOUNT', ready, '-inf', '(' .. turn) or others
    if is_own and turn then others = others - 1 end
    if index == 1 or others == 0 then return earlier + (is_own and index - 1 or 0) end
    local places, looked, sum, deep = math.min(others, MOST_GROUPS), 0, 0, 0
    for i = 0, places do
      local place = whole(math.floor(i * others / places))
      local user = redis.call('ZRANGE', ready, place, place)[1]
      if user and user ~= t.user_id then
        local number = older_of_user(line, user, {})
        looked, sum = looked + 1, sum + math.min(number, index - 1)
        if number >= index then deep = deep + 1 end
      end
    end
    if looked == 0 then return earlier + (is_own and index - 1 or 0) end
    return (is_own and index - 1 or 0) + (others * sum + earlier * deep) / looked
  end

  -- How many tasks of each kind are before a task, and how many of these are its own user's.
  local function count_before(t)
    local before, own, own_in_line = {}, {}, 0
    for _, line in ipairs(all_lines()) do
      if line.level <= t.level then
        local number = older_of_user(line.name, t.user_id, line.level < t.level and {} or t)
        own[line.kind] = (own[line.kind] or 0) + number
        if line.name == t.line then own_in_line = number end
      end
    end
    local urgent, same = {}, {}
    for _, line in ipairs(all_lines()) do
      local kind = line.kind
      if line.level < t.level then
        urgent[kind] = (urgent[kind] or 0) + line.number
      elseif line.level == t.level then
        same[kind] = order() == 'fair' and sooner(line.name, t, math.floor(own_in_line + 0.5) + 1)
          or older(P .. 'waiting:' .. line.name, t)
      end
    end
    local sum, most = 0, MOST_PASSED_OVER * ((same[t.kind] or 0) + 1)
    for kind, number in pairs(urgent) do sum = sum + number end
    local old = 0
    if sum > most and order() ~= 'fair' then
      for _, line in ipairs(all_lines()) do
        if line.level < t.level then old = old + older(P .. 'waiting:' .. line.name, t) end
      end
    end
    for kind, number in pairs(urgent) do before[kind] = number * math.min((most + old) / sum, 1) end
    for kind, number in pairs(same) do before[kind] = (before[kind] or 0) + number end
    return before, own
  end

  -- How many older tasks have the key of a task: in its own lanes, and in those that the key holds back.
  local function count_of_key(t)
    local sum, own = 0, {}
    for _, level in ipairs(LEVELS) do
      if level <= t.level then
        own[pair(level, t.user_id)] = true
        local lane = lane_of(level .. t.kind, t.user_id, t.key)
        sum = sum + (level < t.level and redis.call('ZCARD', lane) or older(lane, t))
      end
    end
    return sum, own
  end
  local function count_held(both, t, own)
    local held, kind, key = P .. 'held:' .. both, split(both)
    local members, sum = redis.call('ZRANGE', held, '0', whole(MOST_LANES - 1)), 0
    for _, member in ipairs(members) do
      local level, user = split(member)
      if level <= t.level and not own[member] then
        local lane = lane_of(level .. kind, user, key)
        sum = sum + (level < t.level and redis.call('ZCARD', lane) or older(lane, t))
      end
    end
    return #members == MOST_LANES and sum * redis.call('ZCARD', held) / MOST_LANES or sum
  end

  local function least(one, other)
    one, other = one or 0, other or 0
    return one > 0 and other > 0 and math.min(one, other) or math.max(one, other)
  end

  -- Others that a limit keeps from more than some slots, whatever they have before the task.
  local function groups_of(t)
    local own, found = holds(t.kind), {}
    local slots = least(all_limits().user_limit, own.user_limit)
    if slots > 0 and order() ~= 'fair' then
      local seen = {[t.user_id] = true}
      local function add(user)
        if seen[user] then return end
        seen[user] = true
        found[#found + 1] = {number = older_of_user(t.line, user, t), slots = slots, user = user}
      end
      for _, user in ipairs(redis.call('ZRANGE', P .. 'ready:' .. t.line, '0', whole(MOST_GROUPS - 1))) do add(user) end
      for _, user in ipairs(redis.call('SRANDMEMBER', P .. 'parked', whole(MOST_GROUPS))) do add(user) end
    end
    local rate = own.key_rate and usual(t.kind, t.expected).mean * own.key_rate[1] / own.key_rate[2] or 0
    local of_key = least(own.key_limit, rate)
    if of_key > 0 then
      for _, both in ipairs(redis.call('HRANDFIELD', P .. 'held', whole(MOST_GROUPS))) do
        local kind, key = split(both)
        if kind == t.kind and key ~= t.key then
          found[#found + 1] = {number = count_held(both, t, {}), slots = of_key, key = both}
        end
      end
    end
    table.sort(found, function(one, other) return one.number / one.slots > other.number / other.slots end)
    return found
  end

  local ZEROS = {}
  for i = 1, SAMPLES do ZEROS[i] = 0 end

  -- The slots of a limit and the rests of the tasks in them; of many slots some stand for all.
  local pools = {}
  local function pool_of(scope)
    local name = scope.name .. ' ' .. scope.slots
    for one in pairs(scope.out) do name = name .. '\n' .. one end
    if pools[name] then return pools[name] end
    local rests, read = {}, all_runs()
    for _, run in ipairs(read) do
      local is_out = scope.out[run.user] or scope.out[pair(run.kind, run.key)]
      if scope.fits(run) and not is_out then rests[#rests + 1] = run.rest end
    end
    local busy = read.are_all and #rests or math.max(scope.running - scope.taken, #rests)
    local slots = math.max(scope.slots, busy)
    local pool = {weight = math.max(slots / MOST_SLOTS, 1), surplus = math.max(busy - scope.slots, 0), found = {}}
    local shown = math.min(math.ceil(slots), MOST_SLOTS)
    local taken = math.min(math.floor(busy / pool.weight + 0.5), shown)
    for i = #rests + 1, taken do rests[i] = samples.any_rest(scope.usual, 25 + i % 14) end
    for i = taken + 1, shown do rests[i] = ZEROS end
    for i = #rests, shown + 1, -1 do rests[i] = nil end
    pool.rests, pool.free = rests, scope.slots - busy
    pools[name] = pool
    return pool
  end

  -- `before`: numbers by kind.
  local function start_in(scope, before, t)
    local pool, list, number, name = pool_of(scope), {}, 0, ''
    for kind, of_kind in pairs(before) do
      if of_kind > 0 then
        list[#list + 1] = {usual = usual(kind, t.expected), number = of_kind}
        number, name = number + of_kind, name .. kind .. '\n' .. string.format('%.1f\n', of_kind)
      end
    end
    if number + 0.5 < pool.free then return nil end
    if not pool.found[name] then pool.found[name] = samples.start_behind(pool, list) end
    return pool.found[name]
  end

  local function shed(scope, before, groups, t)
    local kept, number = {}, 0
    for kind, of_kind in pairs(before) do
      kept[kind] = of_kind
      number = number + of_kind
    end
    for _, group in ipairs(groups) do
      local stays = scope.slots - group.slots
      if stays >= 1 and group.number / group.slots > number / scope.slots then
        number, scope.slots, scope.taken = number - group.number, stays, scope.taken + group.slots
        kept[t.kind] = math.max((kept[t.kind] or 0) - group.number, 0)
        scope.out[group.user or group.key] = true
      end
    end
    return kept
  end

  -- In how many seconds the n-th start from now has its token.
  local function seconds_to_token_of(name, rate, since, n)
    return math.max(time_when_full(name, rate, since) - NOW + n * rate[2] / rate[1] - rate[2], 0)
  end

  local function later(one, other)
    if not one then return other end
    local found = {}
    for i = 1, SAMPLES do found[i] = math.max(one[i], other[i]) end
    return found
  end

  local function constant(seconds)
    local found = {}
    for i = 1, SAMPLES do found[i] = seconds end
    return found
  end

  local function start_under_limits(t, before, own, of_key)
    local all, limits_of_kind, kind, latest = all_limits(), holds(t.kind), t.kind, nil
    local groups = groups_of(t)
    local function limit(name, slots, running, fits, waits, is_shared)
      if (slots or 0) <= 0 then return nil end
      local scope = {name = name, slots = slots, running = running, fits = fits, out = {}, taken = 0,
        usual = usual(kind, t.expected)}
      local kept = is_shared and shed(scope, waits, groups, t) or waits
      local found = start_in(scope, kept, t)
      if found then latest = later(latest, found) end
      return kept
    end
    local by_workers, running = {}, 0
    for other, number in pairs(before) do
      by_workers[other] = number * slots_of(other, kind) / slots_of(other, other)
    end
    for _, one in ipairs(redis.call('HKEYS', P .. 'running')) do
      local slots = slots_of(one, one)
      if slots > 0 then running = running + counted('running', one) * slots_of(one, kind) / slots end
    end
    local has_kind = {}
    for _, one in ipairs(all_workers()) do has_kind[one.id] = one[pair(kind, '')] end
    local kept = limit('workers\n' .. kind, slots_of(kind, kind), running,
      function(run) return has_kind[run.worker] end, by_workers, true)
    limit('all', all.global_limit, redis.call('ZCARD', P .. 'processing'), function() return true end, before, true)
    limit('kind\n' .. kind, limits_of_kind.limit, counted('running', kind),
      function(run) return run.kind == kind end, {[kind] = before[kind]}, true)
    limit('user\n' .. t.user_id, all.user_limit, counted('active', t.user_id),
      function(run) return run.user == t.user_id end, own)
    limit('kind of user\n' .. pair(kind, t.user_id), limits_of_kind.user_limit, counted('active_of', pair(kind, t.user_id)),
      function(run) return run.kind == kind and run.user == t.user_id end, {[kind] = own[kind]})
    if t.key ~= '' then
      local both = pair(kind, t.key)
      limit('key\n' .. both, limits_of_kind.key_limit, counted('keys', both),
        function(run) return run.kind == kind and run.key == t.key end, {[kind] = of_key})
      if limits_of_kind.key_rate then
        latest = later(latest, constant(seconds_to_token_of(both, limits_of_kind.key_rate, limits_of_kind.key_rate_since,
          math.floor(of_key + 1.5))))
      end
    end
    if limits_of_kind.rate then
      latest = later(latest, constant(seconds_to_token_of(kind, limits_of_kind.rate, limits_of_kind.rate_since,
        math.floor((kept[kind] or 0) + 1.5))))
    end
    return latest or ZEROS
  end

  -- The first delayed tasks, read once.
  local delayed
  local function all_late()
    if delayed then return delayed end
    delayed = {}
    local found = redis.call('ZRANGE', P .. 'delayed', '0', whole(MOST_LATE - 1), 'WITHSCORES')
    for i = 1, #found, 2 do
      local made = read_made(redis.pcall('HGET', task_key(found[i]), 'made'))
      if made then delayed[#delayed + 1] = {due = tonumber(found[i + 1]), made = made} end
    end
    return delayed
  end

  -- Add the delayed tasks that fall due within so many seconds and go before a task. Returns whether there are any.
  local function add_late(t, seconds, before, own, of_key)
    local until_then = NOW + seconds
    local number, within, before_it = redis.call('ZCOUNT', P .. 'delayed', '-inf', stamp(until_then)), 0, {}
    if number == 0 then return false, of_key end
    for _, one in ipairs(all_late()) do
      local made = one.made
      local kind, level, seq = made[AT.kind], made[AT.level], tonumber(made[AT.seq])
      if one.due <= until_then then
        within = within + 1
        local is_sooner = level < t.level or (level == t.level and not (t.seq and seq > tonumber(t.seq)))
        if is_sooner and slots_of(kind, kind) > 0 and not holds(kind).paused then before_it[#before_it + 1] = made end
      end
    end
    for _, made in ipairs(before_it) do
      local kind, weight = made[AT.kind], number / within
      before[kind] = (before[kind] or 0) + weight
      if made[AT.user_id] == t.user_id then own[kind] = (own[kind] or 0) + weight end
      if kind == t.kind and made[AT.key] == t.key then of_key = of_key + weight end
    end
    return #before_it > 0, of_key
  end

  -- `t` has line, level, kind, user_id, key and expected as a record has them, and seq, nil for one that is not there:
  -- it comes behind all, and behind as many of its own batch as `more` says, `more_of_key` of them with its key. nil
  -- while nothing starts it: its kind is paused, or no worker has it.
  local function start(t)
    if holds(t.kind).paused or slots_of(t.kind, t.kind) == 0 then return nil end
    local before, own = count_before(t)
    local of_key, lanes = 0, nil
    if t.key ~= '' then
      of_key, lanes = count_of_key(t)
      of_key = of_key + count_held(pair(t.kind, t.key), t, lanes) + (t.more_of_key or 0)
    end
    if t.more then
      before[t.kind] = (before[t.kind] or 0) + t.more
      own[t.kind] = (own[t.kind] or 0) + t.more
    end
    local found = start_under_limits(t, before, own, of_key)
    local _, middle = samples.band_of(found)
    local is_later
    is_later, of_key = add_late(t, middle, before, own, of_key)
    return is_later and start_under_limits(t, before, own, of_key) or found
  end

  return {start = start, usual = usual, samples = samples, runs = all_runs}
end

local forecast
local function the_forecast()
  forecast = forecast or make_forecast()
  return forecast
end
