-- Keep a ticket for one address, so that an event stream may come back with it.
--
-- KEYS[1]  the ticket
-- KEYS[2]  sorted set of the user's tickets that wait
-- KEYS[3]  sorted set of the user's tickets that are kept, scored by when that began [ms since the epoch]
-- ARGV[1]  what the ticket stands for
-- ARGV[2]  the same, with the address
-- ARGV[3]  its time to live [ms]
-- ARGV[4]  most tickets of a user that are kept; 0 for any number
--
-- Reply: 1 when it is kept, 0 when somebody else has used it.
local stored = redis.call('GET', KEYS[1])
if stored == ARGV[2] then return 1 end
if stored ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('ZREM', KEYS[2], KEYS[1])
local time, most = redis.call('TIME'), tonumber(ARGV[4])
redis.call('ZADD', KEYS[3], time[1] * 1000 + math.floor(time[2] / 1000), KEYS[1])
if most > 0 then
  for _, oldest in ipairs(redis.call('ZRANGE', KEYS[3], 0, -most - 1)) do
    redis.call('DEL', oldest)
    redis.call('ZREM', KEYS[3], oldest)
  end
end
redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[3]), tonumber(ARGV[3])))
return 1
