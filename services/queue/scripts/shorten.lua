-- Uses: always, wake, task, journal
--
-- Let leases end sooner, for their worker is out of reach. One that comes back extends them.
--
-- worker: its id    session: of its connection; nothing is done when it has another one by now
-- leases: {task id, token} of each    seconds: until they end
-- Reply: how many end sooner.
local told = redis.call('HGET', P .. 'workers', A.worker)
if told and not string.find(told, A.session, 1, true) then return 0 end
redis.call('HDEL', P .. 'workers', A.worker)
local sooner, ends = lease_until(NOW + A.seconds), {}
for _, lease in ipairs(A.leases) do
  local t = redis.call('HMGET', task_key(lease[1]), 'status', 'token')
  local ends_at = tonumber(redis.call('ZSCORE', P .. 'processing', lease[1]) or '')
  if t[1] == 'processing' and t[2] == lease[2] and ends_at and ends_at > tonumber(sooner) then
    put(ends, sooner, lease[1])
    local known = load_task(lease[1])
    if known then journal(known, 'connection_lost', A.worker) end
  end
end
call_in_parts('ZADD', P .. 'processing', ends)
if #ends > 0 then announce_due(NOW + A.seconds) end
return #ends / 2
