-- Uses: base
--
-- Counts, each hash by its fields. The additions of a script are written once; a count of zero is not kept.
--
-- `active` claimed tasks of a user, `active_of` of a kind and user, `running` of a kind, `keys` of a kind
-- and key; `waiting_of` queued and `aside` delayed tasks of a user; `counts` ended tasks by state; `queued` waiting tasks of a line;
-- `blocked` users and lanes of a line that stand aside, `held` lanes of a kind and key that do; `plan_uses`
-- how many tasks name a plan.
local added, known = {}, {}

local function counted(hash, field)
  local of = known[hash]
  if not of then
    of = {}
    known[hash] = of
  end
  if not of[field] then of[field] = tonumber(redis.call('HGET', P .. hash, field) or '') or 0 end
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

-- By hash: what to do when one of its counts is zero again.
local when_none = {}

do
  -- Many counts of a hash are read and written at once.
  local function write_counts(hash, fields, values)
    local known_of, unread = known[hash] or {}, {}
    -- Later counts of this script see these values.
    known[hash] = known_of
    for _, field in ipairs(fields) do
      if not known_of[field] then unread[#unread + 1] = field end
    end
    if #unread > 0 then
      local found = redis.call('HMGET', P .. hash, unpack(unread))
      for i, field in ipairs(unread) do known_of[field] = tonumber(found[i] or '') or 0 end
    end
    local set_to, none = {}, {}
    for i, field in ipairs(fields) do
      local sum = known_of[field] + values[i]
      if sum > 0 then put(set_to, field, whole(sum)) else none[#none + 1] = field end
    end
    if #set_to > 0 and redis.call('HSET', P .. hash, unpack(set_to)) == #set_to / 2 then make_hash_table(P .. hash) end
    if #none > 0 then redis.call('HDEL', P .. hash, unpack(none)) end
    if when_none[hash] then
      for _, field in ipairs(none) do when_none[hash](field) end
    end
  end

  finishers[#finishers + 1] = function()
    for hash, more in pairs(added) do
      local fields, values = {}, {}
      for field, by in pairs(more) do
        if by ~= 0 then
          fields[#fields + 1], values[#values + 1] = field, by
          if #fields == PART then
            write_counts(hash, fields, values)
            fields, values = {}, {}
          end
        end
      end
      if #fields > 0 then write_counts(hash, fields, values) end
    end
  end
end
