-- Uses: samples
--
-- The tasks that run, what is left of each, and the workers that there are: what a waiting task waits for.
-- Of many running tasks the first by the ends of their leases stand for all.
-- `given`: see starts.lua.
function forecast.running(samples, given)
  local MOST_RUNS, MOST_WORKERS = 32, 200
  -- A silent worker still counts for this long [s]: SILENT_SECONDS of kinds.py.
  local SILENT = 30
  local read_made, AT, usuals = given.read_made, given.AT, {}

  -- The usual length of a kind; what the submitter expects until it is known.
  local function usual(kind, expected)
    local known = pace_of(kind)
    local name = known and kind or pair(kind, expected)
    if not usuals[name] then usuals[name] = samples.usual_of(known, tonumber(expected)) end
    return usuals[name]
  end

  -- The running tasks: of many the first by the ends of their leases.
  local runs
  local function read_run(id, number)
    -- One that this script has started or ended is written later.
    local changed, found, made = records[task_key(id)], nil, nil
    if changed and changed.status ~= 'processing' then return nil end
    if changed then
      found, made = {'', changed.started_at, changed.worker_id, changed.fragment}, changed[PACKED]
    else
      found = redis.pcall('HMGET', task_key(id), 'made', 'started_at', 'worker_id', 'fragment')
      made = found[1] and read_made(found[1])
    end
    local started = tonumber(found[2] or '')
    if not (made and started) then return nil end
    local run = {id = id, user = made[AT.user_id], kind = made[AT.kind], key = made[AT.key], batch = made[AT.batch_id],
      worker = found[3] or '', known = pace_of(made[AT.kind]) ~= nil}
    local function told(field) return tonumber(string.match(found[4] or '', '"' .. field .. '":(-?[%d%.eE+-]+)') or '') end
    local own, elapsed, left = usual(run.kind, made[AT.expected]), told('elapsed_time'), told('remaining_time')
    local mu, sigma, age = own.mu, own.sigma, math.max(NOW - started, 0)
    if elapsed and left then
      -- Its own estimate. When that was made is reckoned from the start, by the clock of Redis.
      local low, high = told('remaining_low'), told('remaining_high')
      left = math.max(left, 0.01)
      mu, age, run.known = math.log(left), math.max(age - elapsed, 0), true
      -- The 10th and 90th percentile of a normal distribution are 2.563 standard deviations apart.
      if low and high and high > 0 then sigma = math.log(high / math.max(math.min(low, high), left / 20, 0.01)) / 2.563 end
    end
    function run.rest()
      run.samples = run.samples or samples.rest(mu, math.min(sigma, 2), age, 25 + number % 14)
      return run.samples
    end
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
  -- Some of what is told is a stranger's.
  local MOST_TOLD = 1000000
  local function number_of(told)
    local number = tonumber(told)
    return number and number >= 0 and number <= MOST_TOLD and number or nil
  end

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
        local one = {id = found[i], slots = number_of(more.slots) or number_of(more.concurrency) or 1}
        for _, kind in ipairs(kinds) do
          if type(kind) == 'string' then one[pair(kind, '')] = true end
        end
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


  return {usual = usual, runs = all_runs, workers = all_workers, slots_of = slots_of}
end
