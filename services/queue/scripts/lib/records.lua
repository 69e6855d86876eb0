-- Uses: base
--
-- A record is a hash that a script changes. It is read once, `fields` at first and any other when it
-- is asked for, changed by `set`, and written once, behind the body of the script. Each has a
-- `status`. A field that is not there has the value that `defaults` says, else false.
local records = {}

local LAZY = {
  __index = function(record, field)
    local value = redis.call('HGET', record._key, field) or record._defaults[field] or false
    rawset(record, field, value)
    return value
  end,
}

local function load(key, fields, defaults)
  if records[key] ~= nil then return records[key] end
  local values = redis.call('HMGET', key, 'status', unpack(fields))
  if not values[1] then return nil end
  local record = {_key = key, _changes = {}, _defaults = defaults, status = values[1]}
  for i = 1, #fields do
    local field = fields[i]
    record[field] = values[i + 1] or defaults[field] or false
  end
  records[key] = setmetatable(record, LAZY)
  return record
end

-- One that is not there yet: whatever is not set has its default.
local function create(key, defaults)
  records[key] = setmetatable({_key = key, _changes = {}, _defaults = defaults},
    {__index = function(_, field) return defaults[field] or false end})
  return records[key]
end

local function delete(record)
  records[record._key] = nil
  redis.call('DEL', record._key)
end

local function set(record, values)
  local changes = record._changes
  for field, value in pairs(values) do
    if rawget(record, field) ~= value then
      record[field], changes[field] = value, value
    end
  end
end

finishers[#finishers + 1] = function()
  for key, record in pairs(records) do
    local flat = {}
    for field, value in pairs(record._changes) do put(flat, field, value) end
    if #flat > 0 then redis.call('HSET', key, unpack(flat)) end
  end
end
