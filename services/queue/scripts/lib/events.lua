-- Uses: records
--
-- The events of a task or batch: numbered by `event_seq` of its record, published, and logged as
-- far as the record itself does not tell them.
--
-- Invariant: the log is a list of the last events up to number `logged`. The first event of all is
-- never logged: nobody can have come before it. The record tells the events behind `logged`.
local MAX_EVENTS = tonumber(ARGV[2])

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

-- The language that a task or batch was submitted with, as the first member of a JSON object; '' for none.
local function locale_of(record)
  return string.match(record.head or '', '^"locale":"[^"\\]*",') or ''
end

-- Its data is a JSON object of `head` and `body`: two parts, so that the long one is copied once.
local function envelope(type, offset, head, body)
  return '{"type":"' .. type .. '","data":{' .. head .. (body or '') .. '},"id":"' .. the_epoch()
    .. '-' .. offset .. '"}'
end

-- An event that nobody listens to is not even put together. Looked up for many at once this costs
-- a small part of what publishing to nobody does. All subscribers listen at this server.
local heard, patterns = {task = {}, batch = {}}, nil
local function look_for_listeners(kind, ids)
  local prefix = 'rt:' .. kind .. ':'
  for first = 1, #ids, PART do
    local channels = {}
    for i = first, math.min(first + PART - 1, #ids) do channels[#channels + 1] = prefix .. ids[i] end
    local found = redis.call('PUBSUB', 'NUMSUB', unpack(channels))
    for i = 1, #channels do heard[kind][ids[first + i - 1]] = found[2 * i] > 0 end
  end
end

local function is_heard(kind, id)
  if patterns == nil then patterns = redis.call('PUBSUB', 'NUMPAT') > 0 end
  if patterns then return true end
  if heard[kind][id] == nil then look_for_listeners(kind, {id}) end
  return heard[kind][id]
end

local function next_offset(record)
  local offset = whole(record.event_seq + 1)
  record.event_seq, record[NUMBERED] = offset, true
  return offset
end

-- Append what goes up to the record's newest event.
local function log(kind, id, record, ...)
  local key = log_key(kind, id)
  local length = redis.call('RPUSH', key, ...)
  if length > MAX_EVENTS then redis.call('LTRIM', key, -MAX_EVENTS, -1) end
  set(record, 'logged', record.event_seq)
end

-- Number an event, log it and publish it.
local function emit(kind, id, record, type, head, body)
  local message = envelope(type, next_offset(record), head, body)
  log(kind, id, record, message)
  if is_heard(kind, id) then redis.call('PUBLISH', 'rt:' .. kind .. ':' .. id, message) end
end

-- Number an event that the record tells from now on, by `data(record)`, and publish it.
local function tell(kind, id, record, type, data)
  local offset = next_offset(record)
  if is_heard(kind, id) then
    redis.call('PUBLISH', 'rt:' .. kind .. ':' .. id, envelope(type, offset, data(record)))
  end
end

-- The logged events behind a number; nil when some of them are there no more.
local function read_log(kind, id, record, after)
  local key, logged = log_key(kind, id), tonumber(record.logged)
  if after >= logged then return {} end
  if after < logged - redis.call('LLEN', key) then return nil end
  return redis.call('LRANGE', key, after - logged, -1)
end
