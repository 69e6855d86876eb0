-- Uses: schedules
--
-- Write schedules, all of them or none: only while each is as the writer has read it.
--
-- writes: of each {name, user, was: its definition as it was read, "": there was none, text: the new one, "": it goes,
-- due: its next time, false: as it is, off: whether it is switched off, nil: as it is}
-- most: how many its user may have, 0: any; looked at for new ones
-- kind: "" or one of the code, of which `was_known` is registered and `known` must become
-- Reply: "changed" or "full", else "done". Repeated it changes nothing.
local writes = A.writes
if A.kind ~= '' and (redis.call('HGET', P .. 'schedule_kinds', A.kind) or '') ~= A.was_known then return 'changed' end
for _, one in ipairs(writes) do
  local there = definition_of(one.name)
  if there ~= one.was and there ~= one.text then return 'changed' end
  if A.most > 0 and there == '' and one.text ~= '' then
    local own = redis.call('ZLEXCOUNT', P .. 'schedule_names', '[' .. pair(one.user, ''), '(' .. one.user .. '\11')
    if own >= A.most then return 'full' end
  end
end

local function drop(name)
  redis.call('HDEL', P .. 'schedules', name)
  redis.call('HDEL', P .. 'schedule_state', name)
  redis.call('ZREM', P .. 'schedule_names', name)
  redis.call('ZREM', P .. 'schedule_due', name)
  redis.call('SREM', P .. 'schedules_off', name)
end

local function write(one)
  local name = one.name
  redis.call('HSET', P .. 'schedules', name, one.text)
  redis.call('ZADD', P .. 'schedule_names', 0, name)
  if one.off == true then redis.call('SADD', P .. 'schedules_off', name) end
  if one.off == false then redis.call('SREM', P .. 'schedules_off', name) end
  if redis.call('SISMEMBER', P .. 'schedules_off', name) == 1 then
    redis.call('ZREM', P .. 'schedule_due', name)
  elseif one.due then
    redis.call('ZADD', P .. 'schedule_due', string.format('%.17g', one.due), name)
    announce_schedule(one.due)
  end
end

for _, one in ipairs(writes) do
  if one.text == '' then drop(one.name) else write(one) end
end
if A.kind ~= '' then redis.call('HSET', P .. 'schedule_kinds', A.kind, A.known) end
return 'done'
