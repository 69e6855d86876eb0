-- Uses: always, base
--
-- Keep a claimed task for longer.
--
-- id, token, visibility [s]
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = redis.call('HMGET', task_key(A.id), 'status', 'token')
if t[1] ~= 'processing' or t[2] ~= A.token then return 0 end
redis.call('ZADD', P .. 'processing', lease_until(NOW + A.visibility), A.id)
return 1
