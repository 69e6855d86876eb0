-- Uses: moves, brief
--
-- The ends of attempts, as their owners tell them.

local AGAIN = {error = true, retry = true}

-- The times of completed tasks, by the sort of task and by the kind, the newest first; of the sorts that had none for
-- the longest the times are forgotten. They are never worth an error: a key may be of another type.
local MOST_LESSONS = 64
local function note_lesson(sort, kind, entry, length)
  for key, value in pairs({['history:' .. sort] = entry, ['lengths:' .. kind] = length}) do
    redis.pcall('LPUSH', P .. key, value)
    redis.pcall('LTRIM', P .. key, 0, MOST_LESSONS - 1)
  end
  redis.pcall('ZADD', P .. 'histories', NOW, sort)
  local sorts = redis.pcall('ZCARD', P .. 'histories')
  if A.sorts > 0 and type(sorts) == 'number' and sorts > A.sorts then
    -- Two at most: after the bound was lowered each lesson takes away one more than it adds.
    for _ = 1, math.min(sorts - A.sorts, 2) do
      redis.call('DEL', P .. 'history:' .. redis.call('ZPOPMIN', P .. 'histories')[1])
    end
  end
end

-- An end that comes later than this after the attempt is over says by how much: Redis was away, or slow [s].
local LATE = 2
local function note_late(t, ran)
  local started = tonumber(t.started_at or '')
  local late = ran and started and NOW - started - ran or 0
  if late > LATE then journal(t, 'late', string.format('%.1f', late)) end
end

-- The owner ends its task. Returns what became of it and its record: its state when it has ended, the outcome of the
-- attempt when another one follows, 0 when the token is not the one of the running attempt. Repeated, it returns the
-- same. `delay` [s] is until another attempt, `report` the fragment of a last report that was not told, `lesson` what a
-- completed task has taught (see note_lesson), `ran` how long the attempt took [s], `terms` those of the words of the
-- error.
local function end_attempt(id, token, outcome, result, error, fragment, delay, report, lesson, ran, terms)
  local t = (AGAIN[outcome] and load_task or load_claimed)(id)
  if not t or token == '' then return 0 end
  if t.token ~= token then return t.closed == token and outcome or 0, t end
  if t.status ~= 'processing' then return t.status, t end
  if report then tell_last(t, report) end
  note_late(t, ran)
  if terms then note_terms(t.seq, terms) end
  if AGAIN[outcome] then
    give_back(t, outcome, error or '', NOW + (delay or 0), token, fragment or '')
  else
    end_task(t, outcome, token, result or '', error or '', fragment or '')
    if lesson and outcome == 'completed' then note_lesson(unpack(lesson)) end
  end
  return ENDED[t.status] and t.status or outcome, t
end
