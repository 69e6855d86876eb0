-- Names, time and events, shared by every script.
--
-- KEYS[1]  the prefix of all keys, with the hash tag: "{name}:"
-- ARGV[1]  what begins the epoch of a log that has none yet
-- ARGV[2]  how many events are kept of a task or batch
-- The arguments of each script begin at ARGV[3].
--
-- Every other key is made of the prefix, so that Redis Cluster keeps them in one slot.
local P = KEYS[1]
local MAX_EVENTS = ARGV[2]

local time = redis.call('TIME')
local NOW = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function stamp(seconds)
  return string.format('%.6f', seconds)
end
local NOW_STAMP = stamp(NOW)

-- ISO 8601, UTC. Days to a date: Hinnant, "chrono-compatible low-level date algorithms".
local function iso(seconds)
  local z = math.floor(seconds / 86400) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%03dZ', year, month,
    doy - math.floor((153 * mp + 2) / 5) + 1, math.floor(rest / 3600),
    math.floor(rest % 3600 / 60), math.floor(rest % 60), math.floor(rest % 1 * 1000))
end

local function task_key(id) return P .. 'task:' .. id end
local function batch_key(id) return P .. 'batch:' .. id end
local function events_key(kind, id) return P .. 'events:' .. kind .. ':' .. id end

-- A hash as it is kept, for what is only read; nil when there is none.
local function read_hash(key)
  local flat = redis.call('HGETALL', key)
  if #flat == 0 then return nil end
  local fields = {}
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
  return fields
end

-- A record is a hash that a script changes. It is read once, `fields` at first and any other when it
-- is asked for, changed by `set`, and written once, by the `flush` at the end of every script. Each
-- has a `status`.
local records = {}

local LAZY = {
  __index = function(record, field)
    local value = redis.call('HGET', record._key, field)
    rawset(record, field, value)
    return value
  end,
}

local function load(key, fields)
  if records[key] ~= nil then return records[key] end
  local values = redis.call('HMGET', key, 'status', unpack(fields))
  if not values[1] then return nil end
  local record = {_key = key, _changes = {}, _emitted = false, status = values[1]}
  for i, field in ipairs(fields) do record[field] = values[i + 1] end
  records[key] = setmetatable(record, LAZY)
  return record
end

local function create(key)
  records[key] = {_key = key, _changes = {}, _emitted = false}
  return records[key]
end

local function delete(record)
  records[record._key] = nil
  redis.call('DEL', record._key)
end

local function put(flat, field, value)
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end

local function set(record, changes)
  for field, value in pairs(changes) do
    record[field] = value
    put(record._changes, field, value)
  end
end

local function save_records()
  for key, record in pairs(records) do
    if record._emitted then put(record._changes, 'event_seq', record.event_seq) end
    if #record._changes > 0 then redis.call('HSET', key, unpack(record._changes)) end
  end
end

local epoch
local function the_epoch()
  epoch = epoch or redis.call('GET', P .. 'epoch')
  if not epoch then
    -- A process names one again after everything was lost: never the same.
    epoch = ARGV[1] .. string.format('%x', NOW * 1000)
    redis.call('SET', P .. 'epoch', epoch)
  end
  return epoch
end

local function envelope(type, offset, head, body)
  return '{"type":"' .. type .. '","data":{' .. head .. body .. '},"id":"' .. the_epoch() .. '-'
    .. offset .. '"}'
end

local function keep_event(kind, id, offset, message)
  redis.call('XADD', events_key(kind, id), 'MAXLEN', MAX_EVENTS, '0-' .. offset,
    'message', message)
end

-- Number an event of a record and publish it. Its data is a JSON object of `head` and `body`: two
-- parts, so that the long one is copied once. The last one of all, `finished`, is not kept: the
-- record itself tells it.
local function emit(kind, id, record, type, head, body)
  local offset = string.format('%d', (record.event_seq or 0) + 1)
  record.event_seq, record._emitted = offset, true
  local message = envelope(type, offset, head, body)
  if type ~= 'finished' then keep_event(kind, id, offset, message) end
  redis.call('PUBLISH', 'rt:' .. kind .. ':' .. id, message)
end

-- Once a script is enough, however many tasks came into the line.
local woken = false
local function wake_workers()
  if woken then return end
  woken = true
  redis.call('PUBLISH', 'rt:workers', '{"type":"wake","data":{}}')
end

-- Let waiting workers know that something falls due, so that none of them has to look for it.
local function announce_due(time)
  redis.call('PUBLISH', 'rt:workers',
    '{"type":"wake","data":{"due_in":' .. string.format('%.3f', math.max(time - NOW, 0)) .. '}}')
end

-- What an earlier request with this idempotency key made: its id; "conflict" when that request was
-- another one; nil when there was none.
local function made_before(key, digest)
  if key == '' then return nil end
  local kept = redis.call('HMGET', P .. 'once:' .. key, 'digest', 'id')
  if not kept[1] then return nil end
  return kept[1] == digest and kept[2] or 'conflict'
end

local function remember_made(key, digest, id, seconds)
  if key == '' then return end
  redis.call('HSET', P .. 'once:' .. key, 'digest', digest, 'id', id)
  redis.call('PEXPIRE', P .. 'once:' .. key, math.floor(tonumber(seconds) * 1000))
end
