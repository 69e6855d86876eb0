-- Uses: running
--
-- The tasks before a waiting task. They are counted in O(log n) of each line, and no more is looked at than the numbers
-- below say.
-- - Higher priorities go before, but no more younger ones than may pass over older ones (MOST_PASSED of claim.lua).
-- - In order of submission: all that is older. In fair order: of each other user as many as the task has tasks of its
--   own user before it, and one more of those whose turn is sooner; with many users this is the mean of some.
-- - Under a limit of users (in order of submission) and of keys: who has more to do than the others need time for keeps
--   their slots busy meanwhile, and is a group that is left out with these slots.
-- - Delayed tasks that fall due until then and go before.
-- Later submissions of a higher priority are not foreseen.
-- `usual` and `slots_of`: see running.lua; `given`: see starts.lua.
function forecast.counting(usual, slots_of, given)
  local MOST_GROUPS, MOST_LANES, MOST_LATE, FEW = 8, 16, 12, 4
  -- As in claim.lua.
  local MOST_PASSED_OVER = 9
  local MARK, LEVELS, AT, read_made = given.MARK, given.LEVELS, given.AT, given.read_made
  local user_line, lane_of, kind_of = given.user_line, given.lane_of, given.kind_of
  local order, all_limits = given.order, given.all_limits

  -- The limits of a kind, and whether it is paused: the same for all its waiting tasks. Read once.
  local held_by = {}
  local function holds(kind)
    if not held_by[kind] then
      local paused = redis.call('SMISMEMBER', P .. 'paused', '', kind)
      held_by[kind] = given.read_limits(redis.call('HGET', P .. 'limits', kind))
      held_by[kind].paused = paused[1] == 1 or paused[2] == 1
    end
    return held_by[kind]
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

  -- The keys among the first entries of a user's line, and of how many of its entries each of them is one.
  local lanes = {}
  local function lanes_in(own)
    if lanes[own] then return lanes[own] end
    local found, looked = {scale = 1}, redis.call('ZRANGE', own, '0', whole(MOST_LANES - 1))
    for _, entry in ipairs(looked) do
      if string.sub(entry, 1, 1) == MARK then found[#found + 1] = string.sub(entry, 2) end
    end
    if #looked == MOST_LANES then found.scale = redis.call('ZCARD', own) / MOST_LANES end
    lanes[own] = found
    return found
  end

  -- The older tasks of a user in a line. In the place of a lane stands its first task: the others of some are counted.
  local function older_of_user(line, user, t)
    local own = user_line(line, user)
    local entries, more = older(own, t), 0
    if entries == 0 then return 0 end
    local found = lanes_in(own)
    for _, key in ipairs(found) do more = more + math.max(older(lane_of(line, user, key), t) - 1, 0) end
    return entries + more * found.scale
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

  -- Returns the number of tasks of each kind before a task, and of those of its own user.
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

  -- Returns the number of older tasks with the key of a task: in its own lanes, and in those that
  -- the key holds back.
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

  -- Users who may have much before a task: whose turn is next, and who are at their limit. Read once.
  local others = {}
  local function others_in(line)
    if others[line] then return others[line] end
    local found = redis.call('ZRANGE', P .. 'ready:' .. line, '0', whole(MOST_GROUPS - 1))
    for _, user in ipairs(redis.call('SRANDMEMBER', P .. 'parked', whole(MOST_GROUPS))) do found[#found + 1] = user end
    -- A user with few tasks is no group.
    local many = {}
    for _, user in ipairs(found) do
      if counted('waiting_of', user) >= FEW then many[#many + 1] = user end
    end
    others[line] = many
    return many
  end

  -- Others that a limit keeps from more than some slots, whatever they have before the task.
  local held
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
      for _, user in ipairs(others_in(t.line)) do add(user) end
    end
    local rate = own.key_rate and usual(t.kind, t.expected).mean * own.key_rate[1] / own.key_rate[2] or 0
    local of_key = least(own.key_limit, rate)
    if of_key > 0 then
      held = held or redis.call('HRANDFIELD', P .. 'held', whole(MOST_GROUPS))
      for _, both in ipairs(held) do
        local kind, key = split(both)
        if kind == t.kind and key ~= t.key then
          found[#found + 1] = {number = count_held(both, t, {}), slots = of_key, key = both}
        end
      end
    end
    table.sort(found, function(one, other) return one.number / one.slots > other.number / other.slots end)
    return found
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

  local function some_are_late() return #all_late() > 0 end

  -- Add the delayed tasks that fall due within these seconds and go before a task. Returns whether there are any.
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

  return {holds = holds, before = count_before, of_key = count_of_key, held = count_held, groups = groups_of,
    some_are_late = some_are_late, add_late = add_late}
end
