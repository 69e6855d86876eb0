-- Uses: always, moves
--
-- Keep what a step of a running attempt resulted in, for later attempts.
--
-- id, token    name: of the step    value: JSON
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
redis.call('HSET', kept_key(A.id), A.name, A.value)
if t.kept == '' then set(t, 'kept', '1') end
return 1
