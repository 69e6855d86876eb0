-- Admit connections, within what a user may have over all processes.
--
-- KEYS[1]  the set of processes
-- KEYS[2]  what the keys of the counts begin with; a process's id follows
-- ARGV[1]  the asking process    ARGV[2] for how long its counts stay if it is not heard of [s]
-- ARGV[3]  connections a user
-- ARGV[4...] for each connection: its user, how many he has here with it
-- Reply: 1 for each that is admitted, 0 for the others. The asking process's count is kept.
local own = KEYS[2] .. ARGV[1]
local others = {}
for _, process in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if process ~= ARGV[1] then others[#others + 1] = KEYS[2] .. process end
end

local replies = {}
for i = 4, #ARGV, 2 do
  local sum = tonumber(ARGV[i + 1])
  for _, key in ipairs(others) do sum = sum + tonumber(redis.call('HGET', key, ARGV[i]) or 0) end
  local admitted = sum <= tonumber(ARGV[3])
  if admitted then redis.call('HSET', own, ARGV[i], ARGV[i + 1]) end
  replies[#replies + 1] = admitted and 1 or 0
end
redis.call('EXPIRE', own, ARGV[2])
return replies
