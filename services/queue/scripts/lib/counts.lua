-- Uses: base
--
-- Counts by user and by state: `active` claimed tasks, `aside` delayed ones, `counts` ended ones.
-- What a script adds is written once; a count of none is not kept.
local added = {active = {}, aside = {}, counts = {}}
local kept = {active = {}, aside = {}, counts = {}}

local function counted(hash, field)
  local known = kept[hash]
  known[field] = known[field] or tonumber(redis.call('HGET', P .. hash, field) or 0)
  return known[field] + (added[hash][field] or 0)
end

local function count(hash, field, by)
  added[hash][field] = (added[hash][field] or 0) + by
end

finishers[#finishers + 1] = function()
  for hash, fields in pairs(added) do
    for field, by in pairs(fields) do
      if by ~= 0 and redis.call('HINCRBY', P .. hash, field, by) <= 0 then
        redis.call('HDEL', P .. hash, field)
      end
    end
  end
end
