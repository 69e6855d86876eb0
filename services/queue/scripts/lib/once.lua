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

local function remember_made(key, digest, id, seconds)
  if key == '' then return end
  redis.call('HSET', P .. 'once:' .. key, 'digest', digest, 'id', id)
  redis.call('PEXPIRE', P .. 'once:' .. key, math.floor(tonumber(seconds) * 1000))
end
