-- Uses: moves, once
--
-- Tasks that are not there yet. Nobody can listen to one yet, so its first event is not told.

local function add_task(id, user, batch_id, symbol, params, callback_url, notify, expected, head, plan,
    run_at)
  local seq = redis.call('INCR', P .. 'seq')
  local t = adopt({
    _key = task_key(id), _changes = false, _numbered = false, task_id = id, user_id = user, seq = seq,
    batch_id = batch_id, status = '',
  }, TASK)
  set(t, 'made', pack_made(user, batch_id, symbol, params, NOW_STAMP, callback_url, notify, tostring(seq),
    expected, head, plan))
  redis.call('ZADD', P .. 'tasks:' .. user, seq, id)
  wait_in_line(t, run_at)
  return t
end

-- Whether a user may have so many more waiting tasks; delayed ones count.
local function has_room(user, adding, limit)
  if limit == 0 then return true end
  return redis.call('ZCARD', P .. 'waiting:' .. user) + counted('aside', user) + adding <= limit
end
