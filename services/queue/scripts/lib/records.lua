-- Uses: base
--
-- A record is a hash that a script changes. It is read once, any other field when it is asked for,
-- changed by `set`, and written once, behind the body of the script. Each has a `status`. A field that is not
-- there has the default of its kind, else false. Its array part is the library's own: its key, its changes, whether
-- an event of it was numbered, and the values of its packed fields; a value that is not there yet is false.
--
-- Tables that grow are most of what a script costs, and so are large ones: malloc (glibc) has a fast way for 1 KB,
-- which is a table of 16 fields. A table for every task is made at its full size, and is no larger.
local KEY, CHANGES, NUMBERED, PACKED = 1, 2, 3, 4
local records = {}

-- Return what all records of a kind share, and the places of its `packed` fields. Redis keeps these together under
-- `made`, in this order: then one thing is far away in memory, not a dozen. `derived` fields are not kept: each has a
-- function that makes it from the record.
local function kind_of_record(defaults, packed, derived)
  local places = {}
  for i = 1, #packed do places[packed[i]] = i end
  return {__index = function(record, field)
    local place = places[field]
    if place then
      if not record[PACKED] then record[PACKED] = cmsgpack.unpack(record.made) end
      return record[PACKED][place]
    end
    local derive, value = derived[field], nil
    if derive then
      value = derive(record)
    else
      value = redis.call('HGET', record[KEY], field) or defaults[field] or false
    end
    rawset(record, field, value)
    return value
  end}, places
end

-- Have a record that was read written behind the body.
local function adopt(record, kind)
  records[record[KEY]] = setmetatable(record, kind)
  return record
end

-- Whether this is a number as a record keeps them.
local function is_whole(value)
  -- Most of them have one of these values.
  if value == '0' or value == '1' then return true end
  return value and #value < 16 and string.find(value, '^%d+$') ~= nil
end

local function load(key, fields, kind)
  if records[key] then return records[key] end
  -- A key that is no hash is no record.
  local values = redis.pcall('HMGET', key, 'status', unpack(fields))
  if not values[1] then return nil end
  local record = {key, false, false, false, status = values[1]}
  for i = 1, #fields do record[fields[i]] = values[i + 1] or nil end
  return adopt(record, kind)
end

local function delete(record)
  records[record[KEY]] = nil
  redis.call('DEL', record[KEY])
end

-- Change fields: each is followed by its value.
local function set(record, ...)
  local given, changes = {...}, record[CHANGES]
  for i = 1, #given, 2 do record[given[i]] = given[i + 1] end
  if not changes then
    record[CHANGES] = given
    return
  end
  for i = 1, #given do changes[#changes + 1] = given[i] end
end

do
  -- A batch changes with each of its tasks: of many changes the last of each field is written.
  local MANY_CHANGES = 100
  local function last_changes(record)
    local changes = record[CHANGES] or {}
    if #changes < MANY_CHANGES then return changes end
    local fields, flat = {}, {}
    for i = 1, #changes, 2 do fields[changes[i]] = true end
    for field in pairs(fields) do put(flat, field, record[field]) end
    return flat
  end

  finishers[#finishers + 1] = function()
    for key, record in pairs(records) do
      if record[NUMBERED] then
        redis.call('HSET', key, 'event_seq', record.event_seq, unpack(last_changes(record)))
      elseif record[CHANGES] then
        redis.call('HSET', key, unpack(last_changes(record)))
      end
    end
  end
end
