-- Uses: moves
--
-- Tell those who follow them of running tasks whose leases have run out, and that nobody takes back: no worker lives
-- that would. Each is told once.
--
-- seconds: how long a lease must have run out [s]
-- Reply: how many were told.
local MOST, REMEMBERED = 100, 86400
local told = 0
local before = lease_until(NOW - A.seconds)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'processing', '-inf', before, 'LIMIT', 0, MOST)) do
  local t = load_task(id)
  if t and t.status == 'processing' and redis.call('SADD', P .. 'stalled_told', id .. ':' .. t.token) == 1 then
    redis.call('EXPIRE', P .. 'stalled_told', REMEMBERED)
    emit_progress(t)
    told = told + 1
  end
end
return told
