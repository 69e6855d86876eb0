-- Uses: schedules
--
-- Find the schedules that are due, and what is due next.
--
-- most: how many at most     kinds: those whose code has schedules
-- Reply: {time, the due ones as schedule_read has them, in how many seconds the first of the others is due, "" for
-- none, 1 when a kind is not registered}.
local found = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. 'schedule_due', '-inf', NOW_STAMP, 'LIMIT', 0, A.most)) do
  if definition_of(name) == '' then
    redis.call('ZREM', P .. 'schedule_due', name)
  else
    found[#found + 1] = schedule_reply(name)
  end
end
local later = redis.call('ZRANGEBYSCORE', P .. 'schedule_due', '(' .. NOW_STAMP, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local following = later[2]
local unregistered = 0
for _, kind in ipairs(A.kinds) do
  if redis.call('HEXISTS', P .. 'schedule_kinds', kind) == 0 then unregistered = 1 end
end
return {NOW_STAMP, found, following and stamp(math.max(following - NOW, 0)) or '', unregistered}
