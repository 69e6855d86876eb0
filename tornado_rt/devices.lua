-- Keep what became of connections of users, of each user the last ones.
--
-- KEYS[1]  what the keys begin with; the id of a user follows
-- ARGV[1]  connections kept a user    ARGV[2] how long they are kept after the last one [s]
-- ARGV[3...] for each connection: its user, its name, and what is known of it: a JSON list that begins with when
--          it was opened [s since the epoch]
-- Reply: 1. Repeated with the same arguments it changes nothing.
local most, seconds = tonumber(ARGV[1]), ARGV[2]

local function forget_oldest(key, excess)
  local flat, opened = redis.call('HGETALL', key), {}
  for i = 1, #flat, 2 do
    opened[#opened + 1] = {tonumber(string.match(flat[i + 1], '^%[([%d.]+)') or '') or 0, flat[i]}
  end
  table.sort(opened, function(a, b) return a[1] < b[1] end)
  for i = 1, excess do redis.call('HDEL', key, opened[i][2]) end
end

for i = 3, #ARGV, 3 do
  local key = KEYS[1] .. ARGV[i]
  redis.call('HSET', key, ARGV[i + 1], ARGV[i + 2])
  local excess = redis.call('HLEN', key) - most
  if excess > 0 then forget_oldest(key, excess) end
  redis.call('EXPIRE', key, seconds)
end
return 1
