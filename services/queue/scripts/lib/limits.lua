-- Uses: line, wake
--
-- Limits: `own_limits` are those that the code and the settings name, `changed_limits` those that an admin has
-- set, which win; `limits` is both. The name of those over all kinds is "".

local function unpacked(hash, name)
  return read_limits(redis.call('HGET', P .. hash, name))
end

-- Find the turns of all users of some lines anew: `fits(line)`.
local function turn_anew(fits, order_changed)
  local users = redis.call('SMEMBERS', P .. 'parked')
  table.sort(users)
  for _, user in ipairs(users) do
    local lines = redis.call('SMEMBERS', P .. 'parked:' .. user)
    table.sort(lines)
    for _, line in ipairs(lines) do
      if fits(line) then
        unpark(line, user)
        note(moved, pair(line, user))
      end
    end
  end
  if not order_changed then return end
  local back = moved
  moved = {}
  local lines = redis.call('HKEYS', P .. 'queued')
  table.sort(lines)
  for _, line in ipairs(lines) do
    for _, user in ipairs(redis.call('ZRANGE', P .. 'ready:' .. line, 0, -1)) do note(moved, pair(line, user)) end
    redis.call('DEL', P .. 'ready:' .. line)
  end
  for _, both in ipairs(back) do note(moved, both) end
end

-- Let the next claims look at the lanes that keys of the kind hold back.
local function look_at_all_keys(kind)
  for _, both in ipairs(redis.call('HKEYS', P .. 'held')) do
    local of, key = split(both)
    if of == kind then redis.call('ZADD', P .. 'loose:' .. kind, 0, key) end
  end
end

-- Have the limits of a name hold that its code and an admin say.
local function apply(name)
  local before, both = unpacked('limits', name), unpacked('own_limits', name)
  for field, value in pairs(unpacked('changed_limits', name)) do both[field] = value end
  for _, field in ipairs({'rate', 'key_rate'}) do
    local old, new, since = before[field], both[field], field .. '_since'
    local same = old and new and old[1] == new[1] and old[2] == new[2]
    both[since] = new and (same and before[since] or NOW) or nil
  end
  redis.call('HSET', P .. 'limits', name, cmsgpack.pack(both))
  limits = nil
  if name == '' then
    turn_anew(function() return true end, (before.order or 'fifo') ~= (both.order or 'fifo'))
  else
    turn_anew(function(line) return kind_of(line) == name end, false)
    look_at_all_keys(name)
  end
  settle_line()
  wake_workers()
end
