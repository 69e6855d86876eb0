-- Keep one more ticket of a user, unless as many wait as may.
--
-- KEYS[1]  the ticket
-- KEYS[2]  sorted set of the user's tickets that wait, scored by their end [ms since the epoch]
-- ARGV[1]  what the ticket stands for
-- ARGV[2]  its time to live [ms]
-- ARGV[3]  most tickets of a user that wait; 0 for any number
--
-- Reply: 0 when it is kept, else in how many milliseconds there is room.
-- Invariant: while there is a bound, the set holds every ticket of the user that can be redeemed.
if tonumber(ARGV[3]) == 0 then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends, most = now + tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not redis.call('ZSCORE', KEYS[2], KEYS[1]) and redis.call('ZCARD', KEYS[2]) >= most then
  return math.max(1, tonumber(redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]) - now)
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], ends, KEYS[1])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[2], last)
return 0
