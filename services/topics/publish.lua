-- Publish one message on an application's topic, and keep it for those who are away.
--
-- KEYS[1]  the topic: a hash of `epoch`, and `seq`, the number of its last message
-- KEYS[2]  list of its last messages, as they were published
-- KEYS[3]  this call, so that a repetition of it publishes nothing
-- ARGV[1]  channel
-- ARGV[2]  `data` of the message, as JSON
-- ARGV[3]  the epoch of a topic that is new
-- ARGV[4]  how many messages are kept
-- ARGV[5]  for how long they are kept after the last one [ms]
-- ARGV[6]  for how long this call is known [ms]
--
-- Reply: the id of the message.
-- Invariant: the list ends with the message whose number is `seq`, and has no gap.
local known = redis.call('GET', KEYS[3])
if known then return known end
-- A list without its numbers is useless.
if redis.call('HSETNX', KEYS[1], 'epoch', ARGV[3]) == 1 then redis.call('DEL', KEYS[2]) end
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local id = redis.call('HGET', KEYS[1], 'epoch') .. '-' .. string.format('%.0f', seq)
local envelope = '{"type":"message","data":' .. ARGV[2] .. ',"id":"' .. id .. '"}'
redis.call('RPUSH', KEYS[2], envelope)
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[4]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('SET', KEYS[3], id, 'PX', ARGV[6])
redis.call('PUBLISH', ARGV[1], envelope)
return id
