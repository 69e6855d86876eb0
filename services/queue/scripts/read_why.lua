-- Uses: reply, why, notes
--
-- Read all that the queue knows of why a task is where it is.
--
-- id
-- Reply: nil, or as MessagePack a table: `task` its fields (see lib/reply.lua) and some more, `now`, `lease` when its
-- lease ends [ms] or "", `asked` names of its open questions, `all` and `own` the limits over all and of its kind as
-- they are kept, `counts` of running tasks, `wait` until its rate has a token [s], `running` {id, user, kind, key,
-- worker} of running tasks, `workers` what each worker says, `before` {users, own tasks} that stand before it and
-- `own_before` the ids of the first of these.
local MOST_RUNNING, MOST_BEFORE = 200, 3
local t = load_task(A.id)
if not t then return false end
local flat = reply(t)
put(flat, 'waiting_for', waiting_for(t))
for _, field in ipairs({'worker_id', 'journal', 'revived', 'since', 'notify'}) do put(flat, field, t[field] or '') end

local own = read_limits(redis.call('HGET', P .. 'limits', t.kind))
local with_key = t.key ~= '' and pair(t.kind, t.key)
local wait = own.rate and seconds_to_token(t.kind, own.rate, own.rate_since) or 0
if with_key and own.key_rate then
  wait = math.max(wait, seconds_to_token(with_key, own.key_rate, own.key_rate_since))
end

local running = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'processing', 0, MOST_RUNNING - 1)) do
  local found = redis.pcall('HMGET', task_key(id), 'made', 'worker_id')
  local made = read_made(found[1])
  if made then
    running[#running + 1] = {id, made[AT.user_id], made[AT.kind], made[AT.key], found[2] or ''}
  end
end

local before, own_before = {0, 0}, {}
if t.status == 'queued' then
  local entry, line = t.key == '' and t.task_id or MARK .. t.key, user_line(t.line, t.user_id)
  before[1] = redis.call('ZRANK', P .. 'ready:' .. t.line, t.user_id) or 0
  before[2] = redis.call('ZRANK', line, entry) or 0
  for _, id in ipairs(redis.call('ZRANGE', line, 0, MOST_BEFORE - 1)) do
    if id == entry then break end
    if string.sub(id, 1, 1) ~= MARK then own_before[#own_before + 1] = id end
  end
end

return cmsgpack.pack({
  task = flat,
  now = NOW_STAMP,
  lease = redis.call('ZSCORE', P .. 'processing', t.task_id) or '',
  asked = redis.call('HKEYS', asked_key(t.task_id)),
  all = redis.call('HGET', P .. 'limits', '') or '',
  own = redis.call('HGET', P .. 'limits', t.kind) or '',
  counts = {
    user_limit = counted('active', t.user_id),
    kind_user_limit = counted('active_of', pair(t.kind, t.user_id)),
    kind_limit = counted('running', t.kind),
    key_limit = with_key and counted('keys', with_key) or 0,
    global_limit = redis.call('ZCARD', P .. 'processing'),
  },
  wait = stamp(wait),
  running = running,
  workers = redis.call('HGETALL', P .. 'workers'),
  before = before,
  own_before = own_before,
})
