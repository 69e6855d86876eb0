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

-- A whole number as text. Redis writes a number of Lua with 17 digits, by printf, which takes longer than most of
-- the commands that it is for; and most numbers come again.
local texts = {}
local function whole(number)
  local text = texts[number]
  if not text then
    text = string.format('%d', number)
    texts[number] = text
  end
  return text
end

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

-- While it is small and has no member of more than 64 bytes, a sorted set or a hash is kept as a list: Redis walks
-- over half of it for each member. One that has had a longer member is a skip list or a hash table until it is empty.
local LONG_MEMBER = string.rep('-', 65)
local function make_skip_list(key)
  redis.call('ZADD', key, '0', LONG_MEMBER)
  redis.call('ZREM', key, LONG_MEMBER)
end

local function make_hash_table(key)
  redis.call('HSET', key, LONG_MEMBER, '')
  redis.call('HDEL', key, LONG_MEMBER)
end

local function add_to_skip_list(key, flat)
  if #flat == 0 then return end
  local is_new = redis.call('EXISTS', key) == 0
  call_in_parts('ZADD', key, flat)
  if is_new then make_skip_list(key) end
end

local function delete_in_parts(keys)
  for first = 1, #keys, PART do
    redis.call('DEL', unpack(keys, first, math.min(first + PART - 1, #keys)))
  end
end

-- Two names as one, which no other two give: neither may hold a line break.
local function pair(first, second) return first .. '\n' .. second end
local function split(both) return string.match(both, '^([^\n]*)\n(.*)$') end

-- Writes that are due when the body of the script is done.
local finishers = {}
