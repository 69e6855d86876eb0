-- Uses: task
--
-- The two readings of a task that a claim does for each: of one that starts, and of one that ends.

-- These look at no field that is not needed. Each is nil when these cannot be read; of one that is to start also when
-- they say that it stands in another line.
local function load_waiting(id, line)
  local key = task_key(id)
  local known = records[key]
  -- One that was handed in by this request, or that it has picked already.
  if known then return known.status == 'queued' and known.line == line and known or nil end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'attempt', 'event_seq', 'percent', 'kept', 'since')
  if v[1] ~= 'queued' then return nil end
  local made = read_made(v[2])
  if not (made and made[AT.level] .. made[AT.kind] == line and tonumber(made[AT.seq]) and is_whole(v[3] or '0')
      and is_whole(v[4] or '1') and is_percentage(v[5] or '0')) then return nil end
  return adopt({
    key, false, false, made, task_id = id, status = v[1], attempt = v[3] or '0', event_seq = v[4] or '1',
    user_id = made[AT.user_id], batch_id = made[AT.batch_id], kind = made[AT.kind], key = made[AT.key], line = line,
    token = '', started_at = '', percent = '0', kept = v[6] or '', since = v[7] or '', worker_id = '',
  }, TASK)
end

local function load_claimed(id)
  local key = task_key(id)
  if records[key] then return records[key] end
  local v = redis.pcall('HMGET', key, 'status', 'made', 'token', 'event_seq', 'started_at', 'revived',
    'percent', 'kept')
  if not v[1] then return nil end
  local made = read_made(v[2])
  if not (made and STATES[v[1]] and is_whole(v[4] or '1') and is_percentage(v[7] or '0')) then return nil end
  return adopt({
    key, false, false, made, task_id = id, status = v[1], token = v[3] or '', event_seq = v[4] or '1',
    started_at = v[5], revived = v[6] or '0', percent = v[7] or '0', kept = v[8] or '', user_id = made[AT.user_id],
    batch_id = made[AT.batch_id], kind = made[AT.kind], key = made[AT.key], ended_at = '', result = '',
    fragment = nil, error = nil,
  }, TASK)
end
