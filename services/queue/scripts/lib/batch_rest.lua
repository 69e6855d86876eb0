-- Uses: starts
--
-- When all tasks of a batch have ended, as samples (see samples.lua); nil when too little is known. Its last waiting
-- task is the latest of the last few in its list. Around the end of that one as many of its tasks run as do now.
function forecast.rest_of_batch(b)
  local LOOKED_AT, MOST_LOOKS, MOST_BESIDE = 8, 8, 8
  local f, given = forecast.get(), forecast.given
  local samples, AT = f.samples, given.AT

  local function read_waiting(id)
    local known = records[task_key(id)]
    local status, made = known and known.status, known and known[PACKED]
    if not made then
      local found = redis.pcall('HMGET', task_key(id), 'status', 'made')
      status, made = status or found[1], found[2] and given.read_made(found[2])
    end
    if not made or (status ~= 'queued' and status ~= 'delayed') then return nil end
    return {task_id = id, status = status, user_id = made[AT.user_id], kind = made[AT.kind], level = made[AT.level],
      line = made[AT.level] .. made[AT.kind], key = made[AT.key], seq = made[AT.seq], expected = made[AT.expected]}
  end

  local function last_waiting()
    local last
    for look = 1, MOST_LOOKS do
      local first = -look * LOOKED_AT
      local ids = redis.call('LRANGE', P .. 'batch_tasks:' .. b.batch_id, whole(first), whole(first + LOOKED_AT - 1))
      for _, task_id in ipairs(ids) do
        local one = read_waiting(task_id)
        if one and (not last or one.level >= last.level) then last = one end
      end
      if last or #ids < LOOKED_AT then break end
    end
    return last
  end

  local function start_of(t)
    if t.status == 'queued' then return f.start(t) end
    local due = tonumber(redis.call('ZSCORE', P .. 'delayed', t.task_id) or '')
    return due and samples.constant(math.max(due - NOW, 0))
  end

  local number, latest, kind = 0, nil, b.kind or ''
  local known = pace_of(kind) ~= nil
  for _, run in ipairs(f.runs()) do
    if run.batch == b.batch_id then
      number, known, latest = number + 1, known or run.known, samples.later(latest, run.rest())
    end
  end
  if not known then return nil end
  local own, running = f.usual(kind, '0'), tonumber(b.processing or 0)
  -- The others of many.
  for i = number + 1, math.min(running, number + MOST_BESIDE) do
    latest = samples.later(latest, samples.any_rest(own, 24 + i % 14))
  end
  if tonumber(b.queued or 0) == 0 then return latest end
  local t = pace_of(kind) and last_waiting()
  local start = t and start_of(t)
  if not start then return nil end
  local length = samples.lengths(own, 22)
  for i = 1, math.min(math.max(running, 1), MOST_BESIDE) - 1 do
    length = samples.later(length, samples.any_rest(own, 24 + i))
  end
  return samples.later(latest, samples.sum(start, length))
end
