-- Uses: base
--
-- What an earlier request with this idempotency key made: its id; "conflict" when that request was
-- another one; nil when there was none.
local function made_before(key, digest)
  if key == '' then return nil end
  local kept = redis.call('HMGET', P .. 'once:' .. key, 'digest', 'id')
  if not kept[1] then return nil end
  return kept[1] == digest and kept[2] or 'conflict'
end

-- `most` keys are remembered of a user, 0: any; the oldest are forgotten for newer ones.
local function remember_made(user, key, digest, id, seconds, most)
  if key == '' then return end
  local own, lifetime = P .. 'once_of:' .. user, math.floor(tonumber(seconds) * 1000)
  redis.call('HSET', P .. 'once:' .. key, 'digest', digest, 'id', id)
  redis.call('PEXPIRE', P .. 'once:' .. key, lifetime)
  redis.call('ZREMRANGEBYSCORE', own, '-inf', NOW_STAMP)
  redis.call('ZADD', own, stamp(NOW + tonumber(seconds)), key)
  redis.call('PEXPIRE', own, lifetime)
  local excess = most > 0 and math.min(redis.call('ZCARD', own) - most, PART) or 0
  if excess <= 0 then return end
  local oldest = redis.call('ZRANGE', own, 0, excess - 1)
  for i = 1, #oldest do oldest[i] = P .. 'once:' .. oldest[i] end
  redis.call('DEL', unpack(oldest))
  redis.call('ZREMRANGEBYRANK', own, 0, excess - 1)
end
