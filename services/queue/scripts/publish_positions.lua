-- Uses: task
--
-- Tell those who watch a waiting task where it stands, if a line moved since the last time.
--
-- pause: shortest time between two times [s]
-- Reply: how many were told; -1 when it is too soon.
if not redis.call('SET', P .. 'positions:pause', '1', 'NX', 'PX', math.ceil(A.pause * 1000)) then return -1 end
local queued, seen = redis.call('HGETALL', P .. 'queued'), {}
if #queued == 0 then
  redis.call('DEL', P .. 'positions:seen')
  return 0
end
for i = 1, #queued, 2 do
  local first = redis.call('ZRANGE', P .. 'waiting:' .. queued[i], 0, 0)[1]
  seen[#seen + 1] = queued[i] .. ' ' .. queued[i + 1] .. ' ' .. (first or '')
end
table.sort(seen)
seen = table.concat(seen, '\n')
if redis.call('GETSET', P .. 'positions:seen', seen) == seen then return 0 end
local told = 0
for _, channel in ipairs(redis.call('PUBSUB', 'CHANNELS', 'rt:task:*')) do
  local id = string.sub(channel, 9)
  if redis.call('HGET', task_key(id), 'status') == 'queued' then
    local t = load_task(id)
    if t then
      emit_progress(t)
      told = told + 1
    end
  end
end
return told
