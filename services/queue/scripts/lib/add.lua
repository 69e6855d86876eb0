-- Uses: moves, once
--
-- Tasks that are not there yet. Nobody can listen to one yet, so its first event is not told.
--
-- A task is {id, made, terms}: its fields of MADE as texts, in that order, but for when it is made and its number; and
-- the terms of its tags and words (lib/found.lua).
local add_task, add_all
do
  -- Numbers of submission, taken for all at once; those that are not given out are no loss.
  local next_seq, last_seq = 1, 0
  local function take_seq()
    if next_seq > last_seq then
      last_seq = redis.call('INCRBY', P .. 'seq', #A.tasks)
      next_seq = last_seq - #A.tasks + 1
    end
    next_seq = next_seq + 1
    return string.format('%d', next_seq - 1)
  end

  -- The new tasks of each user, and under "" of all, to be listed at once.
  local listed_of = {[''] = {}}
  -- Before the terms are sorted in: a block goes when no task with a number of it is listed.
  table.insert(finishers, 1, function()
    for user, members in pairs(listed_of) do call_in_parts('ZADD', P .. 'tasks:' .. user, members) end
  end)

  local function make_task(new)
    local seq, made = take_seq(), new.made
    made[AT.created_at], made[AT.seq] = NOW_STAMP, seq
    local user, batch, _, _, kind, level, key = unpack(made)
    local t = adopt({
      task_key(new.id), false, false, made, task_id = new.id, user_id = user, seq = seq, batch_id = batch,
      kind = kind, key = key, line = level .. kind, status = '', made = '', event_seq = '1',
    }, TASK)
    set(t, 'made', cmsgpack.pack(made))
    listed_of[user] = listed_of[user] or {}
    put(listed_of[user], seq, new.id)
    put(listed_of[''], seq, new.id)
    if made[AT.plan] ~= '' then use_plan(made[AT.plan]) end
    note_task(seq, user, kind, batch, new.terms)
    return t
  end

  function add_task(new, run_at)
    local t = make_task(new)
    wait_in_line(t, run_at)
    return t
  end

  -- Add many of one user to the line: of those without a key all behind the first at once.
  function add_all(news)
    local waiting = {}
    for _, new in ipairs(news) do
      local t = make_task(new)
      local behind = t.key == '' and waiting[t.line]
      if behind then
        put(behind, t.seq, t.task_id)
      else
        queue_up(t)
        if t.key == '' then waiting[t.line] = {} end
      end
      set(t, 'status', 'queued')
      note_change(t)
    end
    for line, members in pairs(waiting) do queue_up_behind(line, news[1].made[AT.user_id], members) end
    wake_workers()
  end
end

-- Whether a user may have this many more waiting tasks; delayed ones count.
local function has_room(user, adding, limit)
  if limit == 0 then return true end
  return counted('waiting_of', user) + counted('aside', user) + adding <= limit
end

-- Keep the texts of plans that came with the tasks; for a while also of a task that is refused.
local function keep_plans(plans)
  for digest, text in pairs(plans or {}) do
    redis.call('HSETNX', P .. 'plans', digest, text)
    if counted('plan_uses', digest) == 0 then redis.call('ZADD', P .. 'plan_idle', NOW_STAMP, digest) end
  end
end
