-- Uses: always, base
--
-- Say that a worker lives, or that it does no more.
--
-- worker: its id     info: what it runs (JSON), nil: it is gone     silent: how long one counts [s]
-- session: of its connection, nil when it has none: a new one takes the place of the one before
-- registered: kinds that it has registered
-- Reply: 1, or 0 when one of these kinds is not known any more.
if A.session then
  local told = redis.call('HGET', P .. 'workers', A.worker)
  if told and not string.find(told, A.session, 1, true) then
    redis.call('PUBLISH', 'rt:workers', '{"type":"replaced","data":'
      .. cjson.encode({worker = A.worker, session = A.session}) .. '}')
  end
end
if A.info then
  redis.call('HSET', P .. 'workers', A.worker, NOW_STAMP .. ' ' .. A.info)
else
  redis.call('HDEL', P .. 'workers', A.worker)
  redis.call('SREM', P .. 'draining', A.worker)
end
local all = redis.call('HGETALL', P .. 'workers')
for i = 1, #all, 2 do
  local seen = tonumber(string.match(all[i + 1], '^%S+') or '')
  if not seen or seen + A.silent < NOW then
    redis.call('HDEL', P .. 'workers', all[i])
    redis.call('SREM', P .. 'draining', all[i])
  end
end
for _, kind in ipairs(A.registered) do
  if redis.call('HEXISTS', P .. 'kinds', kind) == 0 then return 0 end
end
return 1
