-- Uses: always, wake
--
-- Have a worker claim nothing more, or claim again. It holds until it is said otherwise, or the worker is gone.
--
-- worker: its id     draining: whether
-- Reply: 1, or 0 when there is no such worker.
if redis.call('HEXISTS', P .. 'workers', A.worker) == 0 then return 0 end
redis.call(A.draining and 'SADD' or 'SREM', P .. 'draining', A.worker)
redis.call('PUBLISH', 'rt:workers', '{"type":"' .. (A.draining and 'drain' or 'undrain') .. '","data":'
  .. cjson.encode({worker = A.worker, queue = P}) .. '}')
if not A.draining then wake_workers() end
return 1
