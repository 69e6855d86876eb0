-- Uses: task
--
-- Tell those who watch a waiting task where it stands, if the line moved since the last time.
--
-- ARGV[3] shortest time between two times [s]
-- Reply: how many were told; -1 when it is too soon.
if not redis.call('SET', P .. 'positions:pause', '1', 'NX', 'PX', ARGV[3] * 1000) then return -1 end
local first = redis.call('ZRANGE', P .. 'waiting', 0, 0, 'WITHSCORES')
if #first == 0 then
  redis.call('DEL', P .. 'positions:seen')
  return 0
end
local seen = first[2] .. ' ' .. redis.call('ZCARD', P .. 'waiting')
if redis.call('GETSET', P .. 'positions:seen', seen) == seen then return 0 end
local told = 0
for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', 'rt:task:*')) do
  local id = string.sub(channel, 9)
  if redis.call('ZSCORE', P .. 'waiting', id) then
    local t = load_task(id)
    if t then
      emit_progress(t)
      told = told + 1
    end
  end
end
return told
