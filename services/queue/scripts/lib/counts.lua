-- Uses: base
--
-- Counts, each hash by its fields. What a script adds is written once; a count of none is not kept.
--
-- `active` claimed tasks of a user, `active_of` of a kind and user, `running` of a kind, `keys` of a kind
-- and key; `waiting_of` queued and `aside` delayed tasks of a user; `counts` ended tasks by state; `queued` waiting tasks of a line;
-- `blocked` users and lanes of a line that stand aside, `held` lanes of a kind and key that do; `plan_uses`
-- how many tasks have used a plan.
local added, known = {}, {}

local function counted(hash, field)
  local of = known[hash]
  if not of then
    of = {}
    known[hash] = of
  end
  if not of[field] then of[field] = tonumber(redis.call('HGET', P .. hash, field) or 0) end
  local more = added[hash]
  return of[field] + (more and more[field] or 0)
end

local function count(hash, field, by)
  local more = added[hash]
  if not more then
    more = {}
    added[hash] = more
  end
  more[field] = (more[field] or 0) + by
end

-- What a hash becomes when one of its counts is none any more.
local when_none = {}

finishers[#finishers + 1] = function()
  for hash, fields in pairs(added) do
    for field, by in pairs(fields) do
      if by ~= 0 and redis.call('HINCRBY', P .. hash, field, by) <= 0 then
        redis.call('HDEL', P .. hash, field)
        if when_none[hash] then when_none[hash](field) end
      end
    end
  end
end
