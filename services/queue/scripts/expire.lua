-- Uses: always, base
--
-- End the leases of workers that are gone; upkeep hands their tasks back.
--
-- workers: ids
-- Reply: how many leases.
local gone, leases = {}, {}
for _, id in ipairs(A.workers) do
  gone[id] = true
  redis.call('HDEL', P .. 'workers', id)
  redis.call('SREM', P .. 'draining', id)
end
for _, id in ipairs(redis.call('ZRANGE', P .. 'processing', 0, -1)) do
  if gone[redis.call('HGET', task_key(id), 'worker_id')] then put(leases, lease_until(NOW), id) end
end
call_in_parts('ZADD', P .. 'processing', leases)
return #leases / 2
