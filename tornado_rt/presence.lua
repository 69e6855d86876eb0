-- Admit connections, within what a user and an address may have over all processes.
--
-- KEYS[1]  the set of processes
-- KEYS[2], KEYS[3]  what the keys of the counts of users, and of addresses, begin with; a process's
--          id follows
-- ARGV[1]  the asking process    ARGV[2] for how long its counts stay if it is not heard of [s]
-- ARGV[3], ARGV[4]  connections a user, and an address; 0: any number
-- ARGV[5...] for each connection: its user, how many they have here with it, its address, how many
--          that has here with it
-- Reply: for each "admitted", or whose limit is reached: "user" or "address". The counts of the
-- asking process are kept of those that are admitted.
-- A connection is let in also when Redis is full: the first write of a script decides, and this one
-- takes no memory.
redis.call('DEL', KEYS[1] .. ':nothing')
local me = ARGV[1]
local others = {}
for _, process in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if process ~= me then others[#others + 1] = process end
end

local function fits(counts, limit, name, here)
  if limit == 0 then return true end
  local sum = tonumber(here)
  for _, process in ipairs(others) do
    sum = sum + tonumber(redis.call('HGET', counts .. process, name) or 0)
  end
  return sum <= limit
end

local per_user, per_address = tonumber(ARGV[3]), tonumber(ARGV[4])
local replies = {}
for i = 5, #ARGV, 4 do
  local user, of_user, address, of_address = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local reply = 'admitted'
  if not fits(KEYS[2], per_user, user, of_user) then
    reply = 'user'
  elseif not fits(KEYS[3], per_address, address, of_address) then
    reply = 'address'
  else
    redis.call('HSET', KEYS[2] .. me, user, of_user)
    redis.call('HSET', KEYS[3] .. me, address, of_address)
  end
  replies[#replies + 1] = reply
end
redis.call('SADD', KEYS[1], me)
redis.call('EXPIRE', KEYS[2] .. me, ARGV[2])
redis.call('EXPIRE', KEYS[3] .. me, ARGV[2])
return replies
