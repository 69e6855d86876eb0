-- From version 1 to 2: the events of a task or batch are a list, of what its record does not tell itself,
-- where they were a stream; `aside` counts the delayed tasks of each user, where `pending` counted also
-- those in the line.
--
-- KEYS[1] the prefix of all keys       ARGV names of tasks and batches, or "finish" when all are done
-- Harmless when repeated: a record whose stream is gone was changed.
local P = KEYS[1]
local ENDED = {completed = true, failed = true, cancelled = true, dead = true}
local epoch = redis.call('GET', P .. 'epoch') or ''

-- An entry is {type, data}, or later the whole message.
local function message(entry, offset)
  local fields = entry[2]
  if #fields == 2 then return fields[2] end
  return '{"type":"' .. fields[2] .. '","data":' .. fields[4] .. ',"id":"' .. epoch .. '-' .. offset .. '"}'
end

-- Number of last events that the record has.
local function told(kind, status, ended_at)
  if kind == 'task' then return ENDED[status] and 2 or 0 end
  return ended_at and ended_at ~= '' and 1 or 0
end

local function to_list(name)
  local stream, key, log = P .. 'events:' .. name, P .. name, P .. 'log:' .. name
  if redis.call('EXISTS', stream) == 0 then return end
  local kind = string.match(name, '^%a+')
  local record = redis.call('HMGET', key, 'event_seq', 'status', 'ended_at')
  local logged = math.max(tonumber(record[1] or 1) - told(kind, record[2], record[3]), 1)
  redis.call('DEL', log)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+')) do
    local offset = tonumber(string.sub(entry[1], 3))
    -- The first event of all nobody can have missed.
    if offset > 1 and offset <= logged then redis.call('RPUSH', log, message(entry, offset)) end
  end
  redis.call('HSET', key, 'logged', tostring(logged))
  redis.call('HDEL', key, 'finished', kind == 'task' and 'task_id' or 'batch_id')
  redis.call('DEL', stream)
end

local function user_of(id)
  local record = redis.call('HMGET', P .. 'task:' .. id, 'user_id', 'made')
  return record[1] or record[2] and cmsgpack.unpack(record[2])[1]
end

if ARGV[1] ~= 'finish' then
  for _, name in ipairs(ARGV) do to_list(name) end
  return
end
redis.call('DEL', P .. 'pending', P .. 'aside')
for _, id in ipairs(redis.call('ZRANGE', P .. 'delayed', 0, -1)) do
  local user = user_of(id)
  if user then redis.call('HINCRBY', P .. 'aside', user, 1) end
end
