-- Read an application's topic from a place on.
--
-- KEYS[1]  the topic: a hash of `epoch`, and `seq`, the number of its last message
-- KEYS[2]  list of its last messages
-- ARGV[1]  the epoch of a topic that is new
-- ARGV[2]  for how long a topic without messages is known [ms]
-- ARGV[3]  the number after which messages are wanted; -1 for the last one
--
-- Reply: epoch, number of the last message, number of the first one in the reply, messages.
if redis.call('HSETNX', KEYS[1], 'epoch', ARGV[1]) == 1 then
  -- The first subscriber must find its place again. A list without its numbers is useless.
  redis.call('DEL', KEYS[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local epoch, seq = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'seq'))
local last, kept = tonumber(seq or 0), redis.call('LLEN', KEYS[2])
local first, after = last - kept + 1, tonumber(ARGV[3])
if after < 0 then after = last - 1 end
local skipped = math.max(math.min(after + 1 - first, kept), 0)
return {epoch, last, first + skipped, redis.call('LRANGE', KEYS[2], skipped, -1)}
