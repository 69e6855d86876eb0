-- Uses: always, wake
--
-- Have no task of a kind start, or have them start again.
--
-- kind: "": of all kinds     paused: whether
-- Reply: {how many of them run, whether all kinds are paused (0 or 1)}.
redis.call(A.paused and 'SADD' or 'SREM', P .. 'paused', A.kind)
if not A.paused then wake_workers() end
local running
if A.kind == '' then
  running = redis.call('ZCARD', P .. 'processing')
else
  running = tonumber(redis.call('HGET', P .. 'running', A.kind) or 0)
end
return {running, redis.call('SISMEMBER', P .. 'paused', '')}
