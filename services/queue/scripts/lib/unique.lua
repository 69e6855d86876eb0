-- Uses: moves
--
-- Unique keys. `unique` is how long a key holds (see free_unique) and its digest.

-- The task that has this key now, nil when there is none; and its id when it has the key for some seconds and is
-- deleted already.
local function holder_of(unique)
  local id = redis.call('GET', P .. 'unique:' .. string.sub(unique, 2))
  if not id then return nil end
  local t, scope = load_task(id), string.sub(unique, 1, 1)
  if not t then return nil, scope == 's' and redis.call('EXISTS', task_key(id)) == 0 and id or nil end
  if scope == 'w' and not WAITS[t.status] then return nil end
  if scope == 'r' and ENDED[t.status] then return nil end
  return t
end

local function claim_unique(unique, id, seconds)
  local key = P .. 'unique:' .. string.sub(unique, 2)
  if string.sub(unique, 1, 1) == 's' then
    redis.call('SET', key, id, 'PX', math.max(math.ceil(seconds * 1000), 1))
  else
    redis.call('SET', key, id)
  end
end
