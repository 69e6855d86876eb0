-- Uses: add, unique, reply
--
-- Add tasks to the line, or aside until their time.
--
-- waiting: most waiting tasks a user, 0: any      seconds: how long a key is remembered
-- keys: keys remembered a user, 0: any            kept: ended tasks kept a user, 0: any
-- tasks: see lib/add.lua, each with these if it has them: delay [s], run_at [s since 1970], once: idempotency
-- key, digest: of the request, conflict: what its unique key does, unique_seconds: how long that holds,
-- parent: {id, token, name} of the running attempt that submits it, under a name for which the id is kept
-- plans: texts by digest
-- Reply: for each {status, when it was made, position or ""} of a new one, the fields of one that there
-- is, "full", "conflict", or {"unique", task id}. Repeated with the same task id or the same idempotency key
-- it changes nothing. With a parent it is {"made", the kept id (JSON)} of a new one and of one that there is,
-- "stale" when the token is not the one of the running attempt. Repeated with the same name it changes nothing.
most_ended = A.kept
keep_plans(A.plans)

local function enqueue(new)
  local user, unique, once = new.made[AT.user_id], new.made[AT.unique], new.once or ''
  local before = made_before(once, new.digest)
  if before == 'conflict' then return before end
  local t = load_task(before or new.id)
  if t then return brief_reply(t, position(t.task_id, t.line)), t.task_id end
  local other, deleted
  if unique ~= '' then other, deleted = holder_of(unique) end
  -- A deleted task cannot be returned.
  if deleted and new.conflict ~= 'replace' then return {'unique', deleted} end
  if other then
    if new.conflict == 'reject' then return {'unique', other.task_id} end
    if new.conflict == 'return' then
      journal(other, 'asked_again', '')
      remember_made(user, once, new.digest, other.task_id, A.seconds, A.keys)
      return brief_reply(other, position(other.task_id, other.line)), other.task_id
    end
  end
  if not has_room(user, 1, A.waiting) and not (other and WAITS[other.status]) then return 'full' end
  if other then
    -- Its submitter has asked for the new one in its place: its end is no news, but its callback is posted.
    if other.notify == '1' then other.notify = 'c' end
    cancel(other, pair('replaced', new.id))
  end
  remember_made(user, once, new.digest, new.id, A.seconds, A.keys)
  if unique ~= '' then claim_unique(unique, new.id, new.unique_seconds) end
  local added = add_task(new, math.max(NOW + (new.delay or 0), new.run_at or 0))
  if other then journal(added, 'replaces', other.task_id) end
  local here = added.status == 'queued' and last_position(added.line) or ''
  return {added.status, NOW_STAMP, here}, new.id
end

local function enqueue_child(new)
  local id, token, name = unpack(new.parent)
  local parent = load_task(id)
  if not parent or parent.status ~= 'processing' or parent.token ~= token then return 'stale' end
  local kept = redis.call('HGET', kept_key(id), name)
  if kept then return {'made', kept} end
  local reply, made = enqueue(new)
  if not made then return reply end
  kept = '"' .. made .. '"'
  -- It may have taken the place of its parent.
  if parent.status == 'processing' then
    redis.call('HSET', kept_key(id), name, kept)
    if parent.kept == '' then set(parent, 'kept', '1') end
  end
  return {'made', kept}
end

local replies = {}
for i, new in ipairs(A.tasks) do
  if new.parent then replies[i] = enqueue_child(new) else replies[i] = (enqueue(new)) end
end
return replies
