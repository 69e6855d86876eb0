-- Uses: base
--
-- Keep a point of a series, and tell it, unless another process has done so.
--
-- step [s]     number: of the point, its time through the step     point: JSON     most: points kept     told: whether
-- Reply: 1, or 0 when this point or a later one is there already.
local step = whole(A.step)
local last = tonumber(redis.call('HGET', P .. 'series', step) or '')
if last and last >= A.number then return 0 end
redis.call('HSET', P .. 'series', step, whole(A.number))
local key = P .. 'series:' .. step
redis.call('RPUSH', key, whole(A.number) .. ' ' .. A.point)
redis.call('LTRIM', key, -A.most, -1)
if A.told then
  redis.call('PUBLISH', 'rt:admin', '{"type":"message","data":' .. A.point .. ',"id":"series-' .. whole(A.number) .. '"}')
end
return 1
