-- Uses: schedules
--
-- Read schedules by their names, or, without names, those of a stretch of the order of all names.
--
-- names    from, till: as of ZRANGEBYLEX    most: how many of the stretch    kind: "" or one of the code
-- Reply: {time, what is registered of the kind, "" for nothing, {name, definition, next time or "", 1 when it is off,
-- {fired, skipped, last time, last task, why the last time made none}} of each that there is}.
local names = A.names
if #names == 0 and A.from ~= '' then
  names = redis.call('ZRANGEBYLEX', P .. 'schedule_names', A.from, A.till, 'LIMIT', 0, A.most)
end
local found = {}
for _, name in ipairs(names) do
  if redis.call('HEXISTS', P .. 'schedules', name) == 1 then found[#found + 1] = schedule_reply(name) end
end
return {NOW_STAMP, redis.call('HGET', P .. 'schedule_kinds', A.kind) or '', found}
