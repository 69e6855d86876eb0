-- Uses: add, unique, why
--
-- Say when tasks would start and end if they were submitted now. It changes nothing.
--
-- user    once: idempotency key, "": none    digest: of the request    waiting: most waiting tasks a user, 0: any
-- tasks: of one task, or of a batch of one kind, see lib/add.lua; the first may have delay [s], run_at [s since 1970]
-- and conflict as those of enqueue have
-- knows: whether the submitter knows how long such a task takes
-- Reply: "full", "conflict", {"unique", task id}; else {time, id of the task or batch that there is already or "", the
-- code of what holds it back or "", position or "", starts, runs, ends}. Each of these is the median, the 10th and the
-- 90th percentile as texts, or none; starts and ends in how many seconds. A batch starts with its first task and ends
-- with its last.
local news, f = A.tasks, forecast.get()
local samples, first, MOST_BESIDE = f.samples, news[1], 8

local function told(values)
  if not values then return {} end
  local low, middle, high = samples.band_of(values)
  return {stamp(middle), stamp(low), stamp(high)}
end

local function sum(one, other) return one and other and samples.sum(one, other) end

local function length_of(kind, expected)
  if not (pace_of(kind) or A.knows) then return nil end
  return samples.lengths(f.usual(kind, expected), 22)
end

-- A task that there is.
local function tell_task(t)
  local starts, runs = nil, nil
  local here = t.status == 'queued' and position(t.task_id, t.line) or ''
  if WAITS[t.status] then
    local due = t.status == 'delayed' and tonumber(redis.call('ZSCORE', P .. 'delayed', t.task_id) or '')
    starts, runs = f.start(t), length_of(t.kind, t.expected)
    if due and starts then starts = samples.later(starts, samples.constant(math.max(due - NOW, 0))) end
  else
    starts = samples.constant(0)
    runs = starts
    for _, run in ipairs(f.runs()) do
      if run.id == t.task_id then runs = run.rest() end
    end
  end
  return {NOW_STAMP, t.task_id, waiting_for(t), here, told(starts), told(runs), told(sum(starts, runs))}
end

-- A batch that there is.
local function tell_batch(b)
  local ends = GOES_ON[b.status] and forecast.rest_of_batch(b) or nil
  if not GOES_ON[b.status] then ends = samples.constant(0) end
  return {NOW_STAMP, b.batch_id, '', '', {}, told(ends), told(ends)}
end

local function new_record(new)
  local made = new.made
  local kind, level = made[AT.kind], made[AT.level]
  return {status = 'queued', user_id = made[AT.user_id], kind = kind, level = level, line = level .. kind,
    key = made[AT.key], expected = made[AT.expected]}
end

-- The last to start: of those of the lowest priority the last. Those before it are counted, and those of its key.
local function last_of_all()
  local last
  for _, new in ipairs(news) do
    local t = new_record(new)
    if not last or t.level >= last.level then last = t end
  end
  last.more, last.more_of_key = #news - 1, -1
  for _, new in ipairs(news) do
    if new.made[AT.key] == last.key then last.more_of_key = last.more_of_key + 1 end
  end
  return last
end

local function first_of_all()
  local soonest
  for _, new in ipairs(news) do
    local t = new_record(new)
    if not soonest or t.level < soonest.level then soonest = t end
  end
  return soonest
end

-- Number of tasks of a batch that may run at once.
local function width(t)
  local own, all = f.holds(t.kind), all_limits()
  local most = f.slots_of(t.kind, t.kind)
  for _, limit in ipairs({own.limit or 0, own.user_limit or 0, all.user_limit or 0, all.global_limit or 0}) do
    if limit > 0 then most = math.min(most, limit) end
  end
  return math.max(math.min(most, #news, MOST_BESIDE), 1)
end

local function tell_new()
  local t = first_of_all()
  local due = math.max(first.delay or 0, (first.run_at or 0) - NOW)
  local starts, length = f.start(t), length_of(t.kind, t.expected)
  local here = last_position(t.line) + 1
  if due > 0 then
    t.status, here = 'delayed', ''
    if starts then starts = samples.later(starts, samples.constant(due)) end
  end
  local _, middle = samples.band_of(starts or samples.constant(1))
  local code = middle > 0 and waiting_for(t) or ''
  if #news == 1 then return {NOW_STAMP, '', code, here, told(starts), told(length), told(sum(starts, length))} end
  local last, ends = last_of_all(), nil
  local runs = length
  if starts and length then
    for i = 1, width(t) - 1 do
      length = samples.later(length, samples.any_rest(f.usual(t.kind, t.expected), 24 + i))
    end
    ends, runs = sum(f.start(last), length), {}
    for i, at in ipairs(ends) do runs[i] = math.max(at - starts[i], 0) end
  end
  return {NOW_STAMP, '', code, here, told(starts), told(runs), told(ends)}
end

local before = made_before(A.once, A.digest)
if before == 'conflict' then return before end
if A.is_batch then
  local b = before and load_batch(before)
  if b then return tell_batch(b) end
  if not has_room(A.user, #news, A.waiting) then return 'full' end
  return tell_new()
end
local there = before and load_task(before)
if there then return tell_task(there) end
local unique, other, deleted = first.made[AT.unique], nil, nil
if unique ~= '' then other, deleted = holder_of(unique) end
if deleted and first.conflict ~= 'replace' then return {'unique', deleted} end
if other then
  if first.conflict == 'reject' then return {'unique', other.task_id} end
  if first.conflict == 'return' then return tell_task(other) end
end
if not has_room(A.user, 1, A.waiting) and not (other and WAITS[other.status]) then return 'full' end
return tell_new()
