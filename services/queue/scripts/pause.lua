-- Uses: always, wake
--
-- Have no task of a kind start, or have them start again.
--
-- kind: "": of all kinds     paused: whether
-- Reply: how many of them run.
redis.call(A.paused and 'SADD' or 'SREM', P .. 'paused', A.kind)
if not A.paused then wake_workers() end
if A.kind == '' then return redis.call('ZCARD', P .. 'processing') end
return tonumber(redis.call('HGET', P .. 'running', A.kind) or 0)
