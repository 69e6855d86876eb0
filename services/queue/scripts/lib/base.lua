-- Names and time, shared by every script.
--
-- KEYS[1]  the prefix of all keys, with the hash tag: "{name}:"
-- ARGV[1]  what begins the epoch of a log that has none yet
-- ARGV[2]  how many events are kept of a task or batch
-- ARGV[3]  the arguments of the script by their names, as MessagePack: each script says which it takes
--
-- Every other key is made of the prefix, so that Redis Cluster keeps them in one slot.
local P = KEYS[1]
local A = cmsgpack.unpack(ARGV[3])

local time = redis.call('TIME')
local NOW = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function stamp(seconds)
  return string.format('%.6f', seconds)
end
local NOW_STAMP = stamp(NOW)

-- The end of a lease in whole milliseconds: Redis keeps and compares few integers faster than floats.
local LEASE_UNIT = 0.001
local function lease_until(seconds)
  return string.format('%d', math.ceil(seconds / LEASE_UNIT))
end

local function task_key(id) return P .. 'task:' .. id end
local function batch_key(id) return P .. 'batch:' .. id end
local function log_key(kind, id) return P .. 'log:' .. kind .. ':' .. id end
local function kept_key(id) return P .. 'kept:' .. id end

local function put(flat, field, value)
  flat[#flat + 1] = field
  flat[#flat + 1] = value
end

-- Lua hands on some thousands of arguments and no more. A part is even, for pairs stay together.
local PART = 2000
local function call_in_parts(command, key, flat, option)
  for first = 1, #flat, PART do
    local last = math.min(first + PART - 1, #flat)
    if option then
      redis.call(command, key, option, unpack(flat, first, last))
    else
      redis.call(command, key, unpack(flat, first, last))
    end
  end
end

local function delete_in_parts(keys)
  for first = 1, #keys, PART do
    redis.call('DEL', unpack(keys, first, math.min(first + PART - 1, #keys)))
  end
end

-- Two names as one, which no other two give: neither may hold a line break.
local function pair(first, second) return first .. '\n' .. second end
local function split(both) return string.match(both, '^([^\n]*)\n(.*)$') end

-- What is to be written when the body of the script is done.
local finishers = {}
