-- Uses: add
--
-- Add a batch and all its tasks to the line.
--
-- id, user, kind    head: of its snapshot (JSON, no braces)    waiting: most waiting tasks a user, 0: any
-- key: idempotency key, "": none    digest: of the request     seconds: how long the key is remembered
-- keys: keys remembered a user, 0: any     tasks: see lib/add.lua     plans: texts by digest
-- Reply: {batch id, user id, status, snapshot, task ids}, "full" or "conflict". Repeated with the
-- same batch id or the same idempotency key it changes nothing.
local before = made_before(A.key, A.digest)
if before == 'conflict' then return before end
local id, user, total = before or A.id, A.user, #A.tasks
if redis.call('EXISTS', batch_key(id)) == 1 then return batch_reply(id) end
if not has_room(user, total, A.waiting) then return 'full' end
remember_made(user, A.key, A.digest, id, A.seconds, A.keys)
keep_plans(A.plans)
local b = adopt({
  batch_key(id), false, false, false, batch_id = id, event_seq = '1', logged = '1',
}, BATCH)
set(b, 'user_id', user, 'kind', A.kind, 'head', A.head, 'total', tostring(total), 'progress_sum', '0',
  'queued', tostring(total), 'status', 'queued', 'created_at', NOW_STAMP,
  'changed_at', NOW_STAMP)
local ids = {}
for i, new in ipairs(A.tasks) do ids[i] = new.id end
add_all(A.tasks)
call_in_parts('RPUSH', P .. 'batch_tasks:' .. id, ids)
return batch_reply(id)
