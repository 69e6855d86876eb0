-- Uses: always, moves
--
-- Do all that is due: leases that ran out, delays that are over, ended tasks that are old. Then mend the
-- counts after tasks were set aside, and list ended tasks that an earlier version did not list.
--
-- retention [s], 0: forever     most: how many of each at most     kept: ended tasks kept a user, 0: any
-- idle: how long a plan that no task names is kept [s]     lost: the error of an attempt whose worker was lost
-- Reply: {expired leases, tasks that came into the line, deleted tasks, in how many seconds the next
-- thing falls due as text, "" for never, tasks that were set aside in all, {kind, "lost" or "dead"} of each task
-- whose lease had expired: another attempt follows, or none}.
most_ended, sorts_few = A.kept, true
local retention, most = A.retention, A.most

local function due(zset, before)
  return redis.call('ZRANGEBYSCORE', P .. zset, '-inf', before, 'LIMIT', 0, most)
end

-- A count of more tasks than this is left as it is: one script must not hold up all.
local MOST_COUNTED = 20000
local RECOUNTED = {processing = {'active', 'active_of', 'running', 'keys'}, delayed = {'aside'}}
local function recount(zset)
  if redis.call('ZCARD', P .. zset) > MOST_COUNTED then return end
  for _, hash in ipairs(RECOUNTED[zset]) do redis.call('DEL', P .. hash) end
  for _, id in ipairs(redis.call('ZRANGE', P .. zset, 0, -1)) do
    local made = read_made(redis.call('HGET', task_key(id), 'made'))
    local user, kind, key
    if made then user, kind, key = made[AT.user_id], made[AT.kind], made[AT.key] end
    if user and zset == 'delayed' then
      count('aside', user, 1)
    elseif user then
      count('active', user, 1)
      count('active_of', pair(kind, user), 1)
      count('running', kind, 1)
      if key ~= '' then count('keys', pair(kind, key), 1) end
    end
  end
end
local uncounted = redis.call('SMEMBERS', P .. 'recount')
if #uncounted > 0 then
  vacated = true
  redis.call('DEL', P .. 'recount')
  for _, zset in ipairs(uncounted) do
    if RECOUNTED[zset] then recount(zset) end
  end
  -- A user that was parked because of such a task may have a turn, and so a lane that was held.
  for _, user in ipairs(redis.call('SMEMBERS', P .. 'parked')) do note(freed, user) end
  for _, both in ipairs(redis.call('HKEYS', P .. 'held')) do note(freed_keys, both) end
end

local expired, lost = due('processing', lease_until(NOW)), {}
for _, id in ipairs(expired) do
  local t = load_task(id)
  if t and t.status == 'processing' then
    give_back(t, 'lost', A.lost, NOW, '', '')
    lost[#lost + 1] = {t.kind, ENDED[t.status] and t.status or 'lost'}
  else
    set_aside(id)
  end
end

local come = due('delayed', NOW)
for _, id in ipairs(come) do
  local t = load_task(id)
  if t and t.status == 'delayed' then
    leave(t)
    wait_in_line(t, NOW)
    emit_progress(t)
  else
    set_aside(id)
  end
end

settle()

local deleted = 0
if retention > 0 then
  for _, id in ipairs(due('ended', NOW - retention)) do
    local t = load_task(id)
    if t and ENDED[t.status] then
      delete_task(t)
      deleted = deleted + 1
    else
      set_aside(id)
    end
  end
  for _, id in ipairs(due('ended_batches', NOW - retention)) do
    local b = load_batch(id)
    delete_batch(id, b and b.user_id or '')
  end
end

-- Tasks that an operator has discarded, and has not kept after all: those that have not been run again.
local discarded = due('discarding', NOW_STAMP)
for _, id in ipairs(discarded) do
  local t = load_task(id)
  if t and (t.status == 'failed' or t.status == 'dead') then
    delete_task(t)
    deleted = deleted + 1
  end
end
call_in_parts('ZREM', P .. 'discarding', discarded)

-- List what an earlier version ended with its user's. Each upkeep goes on where the last one ended: first
-- over all ended tasks, then over all ended batches, until as many are listed as there are.
local LISTING = {
  ended = function(id, ended_at)
    local t = load_task(id)
    if not (t and ENDED[t.status]) then return end
    local list = list_of(t.status)
    if redis.call('ZSCORE', P .. list .. ':' .. t.user_id, id) then return end
    list_ended(list, t.user_id, {moment(ended_at), id})
  end,
  ended_batches = function(id, ended_at)
    local b = load_batch(id)
    if b then list_ended_batch(id, b.user_id, ended_at) end
  end,
}

-- Returns whether there is more to do.
local function list_unlisted()
  if most_ended == 0 then return false end
  local at = redis.call('HMGET', P .. 'listing', 'zset', 'place')
  local all = tonumber(redis.call('GET', P .. 'listed') or 0) + listed
  if not at[1] and redis.call('ZCARD', P .. 'ended') == all then return false end
  local zset = at[1] or 'ended'
  local found = redis.call('ZSCAN', P .. zset, at[2] or '0', 'COUNT', most)
  for i = 1, #found[2], 2 do LISTING[zset](found[2][i], found[2][i + 1]) end
  if found[1] == '0' and zset == 'ended_batches' then
    redis.call('DEL', P .. 'listing')
    redis.call('SET', P .. 'listed', redis.call('ZCARD', P .. 'ended'))
    listed = 0
    return false
  end
  if found[1] == '0' then zset = 'ended_batches' end
  redis.call('HSET', P .. 'listing', 'zset', zset, 'place', found[1])
  return true
end
local more = list_unlisted()

-- Rates that are full again, and plans that no task has named for a while.
redis.call('ZREMRANGEBYSCORE', P .. 'buckets', '-inf', string.format('%d', NOW * 1000000))
for _, digest in ipairs(due('plan_idle', NOW - A.idle)) do
  redis.call('ZREM', P .. 'plan_idle', digest)
  if redis.call('HEXISTS', P .. 'plan_uses', digest) == 0 and redis.call('SISMEMBER', P .. 'pinned_plans', digest) == 0 then
    redis.call('HDEL', P .. 'plans', digest)
  end
end

local following
local function look_at(zset, later, unit)
  local first = redis.call('ZRANGE', P .. zset, 0, 0, 'WITHSCORES')[2]
  if first then following = math.min(following or math.huge, first * (unit or 1) + later) end
end
look_at('processing', 0, LEASE_UNIT)
look_at('delayed', 0)
look_at('discarding', 0)
look_at('plan_idle', A.idle)
if retention > 0 then
  look_at('ended', retention)
  look_at('ended_batches', retention)
end
if more then following = NOW end
return {#expired, #come, deleted, following and stamp(math.max(following - NOW, 0)) or '',
  redis.call('SCARD', P .. 'broken'), lost}
