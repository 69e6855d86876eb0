-- Uses: before, made, line, rates
--
-- When a waiting task starts, as samples (see samples.lua): the latest of the starts that each limit alone would allow.
-- Each limit over running tasks is a set of slots: all tasks, those of its kind, its user, its user and kind, its key,
-- and the places of the workers that have its kind. Its slots are taken, as they are free, by what is before the task
-- under that limit (list scheduling: Graham, "Bounds on multiprocessing timing anomalies", 1969).
--
-- `given` is what these parts use of those around: handed over in a table it costs no function anything.
forecast.given = {
  MARK = MARK, LEVELS = LEVELS, AT = AT, read_made = read_made, user_line = user_line, lane_of = lane_of,
  kind_of = kind_of, order = order, all_limits = all_limits, read_limits = read_limits, time_when_full = time_when_full,
}

function forecast.starts()
  local MOST_SLOTS = 16
  local given, samples = forecast.given, forecast.samples()
  local running = forecast.running(samples, given)
  local usual, all_runs, all_workers, slots_of = running.usual, running.runs, running.workers, running.slots_of
  local counting = forecast.counting(usual, slots_of, given)
  local holds, all_limits, time_when_full = counting.holds, given.all_limits, given.time_when_full
  local later, constant = samples.later, samples.constant

  local ZEROS = constant(0)

  -- The slots of a limit and the rests of the tasks in them; of many slots some stand for all.
  local pools = {}
  local function pool_of(scope)
    local name = scope.name .. ' ' .. scope.slots
    for one in pairs(scope.out) do name = name .. '\n' .. one end
    if pools[name] then return pools[name] end
    local rests, inside, read = {}, {}, all_runs()
    for _, run in ipairs(read) do
      local is_out = scope.out[run.user] or scope.out[pair(run.kind, run.key)]
      if scope.fits(run) and not is_out then inside[#inside + 1] = run end
    end
    local busy = read.are_all and #inside or math.max(scope.running - scope.taken, #inside)
    -- Workers may have more slots than they have told.
    if scope.is_guess then scope.slots = math.max(scope.slots, busy) end
    local slots = math.max(scope.slots, busy)
    local pool = {weight = math.max(slots / MOST_SLOTS, 1), surplus = math.max(busy - scope.slots, 0), found = {}}
    local shown = math.min(math.ceil(slots), MOST_SLOTS)
    local taken = math.min(math.floor(busy / pool.weight + 0.5), shown)
    for i = 1, taken do rests[i] = inside[i] and inside[i].rest() or samples.any_rest(scope.usual, 25 + i % 14) end
    for i = taken + 1, shown do rests[i] = ZEROS end
    pool.rests, pool.free = rests, scope.slots - busy
    pools[name] = pool
    return pool
  end

  -- `before`: numbers by kind. Numbers that many tasks share are found once.
  local function start_in(scope, before, t)
    local number = 0
    for _, of_kind in pairs(before) do number = number + math.max(of_kind, 0) end
    if number + math.max(scope.running - scope.taken, 0) + 0.5 < scope.slots then return nil end
    local pool = pool_of(scope)
    if number + 0.5 < pool.free then return nil end
    local near, list, names = samples.rounded(number), {}, {}
    for kind, of_kind in pairs(before) do
      if of_kind > 0 then
        list[#list + 1] = {usual = usual(kind, t.expected), number = near * of_kind / number}
        names[#names + 1] = string.format('%s %.2f', kind, of_kind / number)
      end
    end
    table.sort(names)
    local name = string.format('%.2f ', near) .. table.concat(names, '\n') .. (pace_of(t.kind) and '' or t.expected)
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

  -- Number of tasks that run on the workers of a kind, and those workers. Found once.
  local served = {}
  local function with_workers(kind)
    local known = served[kind]
    if not known then
      known = {running = 0, workers = {}}
      for _, one in ipairs(redis.call('HKEYS', P .. 'running')) do
        local slots = slots_of(one, one)
        if slots > 0 then known.running = known.running + counted('running', one) * slots_of(one, kind) / slots end
      end
      for _, one in ipairs(all_workers()) do known.workers[one.id] = one[pair(kind, '')] end
      served[kind] = known
    end
    return known.running, known.workers
  end

  local function start_under_limits(t, before, own, of_key)
    local all, limits_of_kind, kind, latest = all_limits(), holds(t.kind), t.kind, nil
    local groups = counting.groups(t)
    local BY_WORKERS = 'workers\n' .. kind
    local function limit(name, slots, running, fits, waits, is_shared)
      if (slots or 0) <= 0 then return nil end
      local scope = {name = name, slots = slots, running = running, fits = fits, out = {}, taken = 0,
        usual = usual(kind, t.expected), is_guess = name == BY_WORKERS}
      local kept = is_shared and shed(scope, waits, groups, t) or waits
      local found = start_in(scope, kept, t)
      if found then latest = later(latest, found) end
      return kept
    end
    local by_workers = {}
    for other, number in pairs(before) do
      by_workers[other] = number * slots_of(other, kind) / slots_of(other, other)
    end
    local running, has_kind = with_workers(kind)
    local kept = limit(BY_WORKERS, slots_of(kind, kind), running,
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

  -- `t` has line, level, kind, user_id, key and expected as a record has them, and seq, nil for one that is not there:
  -- it comes behind all, and behind as many of its own batch as `more` says, `more_of_key` of them with its key. nil
  -- while nothing starts it: its kind is paused, or no worker has it.
  local function start(t)
    if holds(t.kind).paused or slots_of(t.kind, t.kind) == 0 then return nil end
    local before, own = counting.before(t)
    local of_key, lanes = 0, nil
    if t.key ~= '' then
      of_key, lanes = counting.of_key(t)
      of_key = of_key + counting.held(pair(t.kind, t.key), t, lanes) + (t.more_of_key or 0)
    end
    if t.more then
      before[t.kind] = (before[t.kind] or 0) + t.more
      own[t.kind] = (own[t.kind] or 0) + t.more
    end
    local found = start_under_limits(t, before, own, of_key)
    if not counting.some_are_late() then return found end
    local _, middle = samples.band_of(found)
    local is_later
    is_later, of_key = counting.add_late(t, middle, before, own, of_key)
    return is_later and start_under_limits(t, before, own, of_key) or found
  end

  return {start = start, usual = usual, holds = holds, slots_of = slots_of, samples = samples, runs = all_runs}
end

-- The functions that foresee, made once.
function forecast.get()
  forecast.made = forecast.made or forecast.starts()
  return forecast.made
end
