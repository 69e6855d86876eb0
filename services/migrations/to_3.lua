-- From version 2 to 3: what is known when a task is made is one field, `made`; a lease ends at a
-- millisecond, where it was a second; every dead task is in `dead`.
--
-- KEYS[1] the prefix of all keys       ARGV names of tasks and batches, or "finish" when all are done
-- Harmless when repeated: a task that has `made` was changed, and so was a lease of thirteen digits.
local P = KEYS[1]
local MADE = {'user_id', 'batch_id', 'symbol', 'params', 'created_at', 'callback_url', 'notify', 'seq',
  'expected', 'head', 'plan'}
-- Earlier tasks may lack these fields. Without the others a task cannot be run.
local DEFAULTS = {batch_id = '', callback_url = '', notify = '', expected = '60', created_at = '0'}
local FIRST_MILLISECOND = 100000000000

local function pack(key)
  local values = redis.call('HMGET', key, unpack(MADE))
  for i, field in ipairs(MADE) do
    values[i] = values[i] or DEFAULTS[field]
    if not values[i] then return end
  end
  redis.call('HSET', key, 'made', cmsgpack.pack(values))
  redis.call('HDEL', key, unpack(MADE))
end

-- A version that could not read the task may have taken it out of the line.
local function put_in_line(id, user, seq)
  if redis.call('ZSCORE', P .. 'waiting', id) then return end
  redis.call('ZADD', P .. 'waiting', seq, id)
  redis.call('ZADD', P .. 'waiting:' .. user, seq, id)
  if redis.call('SISMEMBER', P .. 'parked', user) == 0 then
    local head = redis.call('ZRANGE', P .. 'waiting:' .. user, 0, 0, 'WITHSCORES')
    redis.call('ZADD', P .. 'ready', head[2], user)
  end
end

local function change(id)
  local key = P .. 'task:' .. id
  if redis.call('TYPE', key).ok ~= 'hash' then return end
  if redis.call('HEXISTS', key, 'made') == 0 then pack(key) end
  local record = redis.call('HMGET', key, 'made', 'status', 'ended_at')
  if not record[1] then return end
  local made = cmsgpack.unpack(record[1])
  if record[2] == 'queued' then put_in_line(id, made[1], made[8]) end
  if record[2] == 'dead' then redis.call('ZADD', P .. 'dead', 'NX', record[3], id) end
  redis.call('SREM', P .. 'broken', id)
end

if ARGV[1] ~= 'finish' then
  for _, name in ipairs(ARGV) do
    local id = string.match(name, '^task:(.+)$')
    if id then change(id) end
  end
  return
end
local leases = redis.call('ZRANGE', P .. 'processing', 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  local ends = tonumber(leases[i + 1])
  if ends < FIRST_MILLISECOND then
    redis.call('ZADD', P .. 'processing', string.format('%d', math.ceil(ends * 1000)), leases[i])
  end
end
