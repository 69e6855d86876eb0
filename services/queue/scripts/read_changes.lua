-- Uses: base
--
-- Read what changed among the tasks of users, and have what changes from here on kept for them (lib/changes.lua).
--
-- watches: {user, the number after which events are wanted, nil: none} each
-- candidate: the epoch of a watch that begins, nil: only renew those that there are     seconds: of a watch
-- Reply: for each {epoch, number of the last event, number of the first one in the reply, events}, or "" when
-- there is no watch.
local milliseconds = string.format('%d', A.seconds * 1000)

local function read(user, after)
  local watch, list = P .. 'watch:' .. user, P .. 'changes:' .. user
  local epoch, seq = unpack(redis.call('HMGET', watch, 'epoch', 'seq'))
  if not (epoch and seq) then
    if not A.candidate then return '' end
    -- A list without its numbers is useless.
    redis.call('DEL', watch, list)
    epoch, seq = A.candidate, '1'
    redis.call('HSET', watch, 'epoch', epoch, 'seq', seq)
  end
  redis.call('PEXPIRE', watch, milliseconds)
  redis.call('PEXPIRE', list, milliseconds)
  local last, kept = tonumber(seq), redis.call('LLEN', list)
  local first = last - kept + 1
  if not after then return {epoch, last, last + 1, {}} end
  local skipped = math.max(math.min(after + 1 - first, kept), 0)
  return {epoch, last, first + skipped, redis.call('LRANGE', list, whole(skipped), '-1')}
end

local replies = {}
for i, one in ipairs(A.watches) do replies[i] = read(one[1], one[2]) end
redis.call('SET', P .. 'watching', '1', 'PX', milliseconds)
return replies
