-- Uses: always, base
--
-- Keep a claimed task for longer.
--
-- ARGV[3] task id          ARGV[4] token          ARGV[5] visibility [s]
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = redis.call('HMGET', task_key(ARGV[3]), 'status', 'token')
if t[1] ~= 'processing' or t[2] ~= ARGV[4] then return 0 end
redis.call('ZADD', P .. 'processing', lease_until(NOW + tonumber(ARGV[5])), ARGV[3])
return 1
