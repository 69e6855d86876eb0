-- Uses: moves, once
--
-- Tasks that are not there yet. Nobody can listen to one yet, so its first event is not told.

local function add_task(id, given, run_at)
  local seq = redis.call('INCR', P .. 'seq')
  local t = create(task_key(id), DEFAULTS)
  t.task_id = id
  set(t, given)
  set(t, {seq = tostring(seq), created_at = NOW_STAMP})
  redis.call('ZADD', P .. 'tasks:' .. given.user_id, seq, id)
  wait_in_line(t, run_at)
  return t
end

-- Whether a user may have so many more waiting tasks; delayed ones count.
local function has_room(user, adding, limit)
  if limit == 0 then return true end
  return redis.call('ZCARD', P .. 'waiting:' .. user) + counted('aside', user) + adding <= limit
end
