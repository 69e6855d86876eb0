-- Uses: add, schedules
--
-- Fire a schedule: set its next time and make its tasks, unless another process has done so.
--
-- name     definition: as it was read     expected: the time that it is due at, false: it fires though it is not due
-- next: its next time, false: it has none     overlap: "skip", "queue" or "replace"
-- tasks: see lib/add.lua, each with at: the time that it is for, and run_at: when it may start
-- dropped: how many times make none, and why     plans: texts by digest
-- waiting: most waiting tasks a user, 0: any     kept: ended tasks kept a user, 0: any
-- Reply: "changed" or "fired" when nothing was done, else {tasks made, why the last time that made none did not, "" if
-- each made one}. Repeated with the same task it makes no other.
--
-- A time that makes no task is skipped; what fires though it is not due has no time.
most_ended = A.kept
local name = A.name
if definition_of(name) ~= A.definition then return 'changed' end
if A.expected and tonumber(redis.call('ZSCORE', P .. 'schedule_due', name) or '') ~= A.expected then return 'fired' end

local state = state_of(name)

-- The task that it made last, until that ends.
local function unended()
  local t = state.last_task ~= '' and load_task(state.last_task)
  return t and not ENDED[t.status] and t or nil
end

-- The tasks of one firing are not in each other's way.
local before = unended()

-- Why a task may not be made; nil when it may.
local function hindrance(new)
  if before and A.overlap == 'skip' then return 'running' end
  local gives_way = before and A.overlap == 'replace' and WAITS[before.status]
  if not gives_way and not has_room(new.made[AT.user_id], 1, A.waiting) then return 'full' end
end

local made, skipped, why = 0, A.dropped, A.why
local function make(new)
  if load_task(new.id) then return end
  local hindered = hindrance(new)
  if hindered then
    skipped, why = skipped + 1, hindered
    return
  end
  if before and A.overlap == 'replace' then
    cancel(before, pair('schedule', name))
    before = nil
    wake_workers()
  end
  add_task(new, new.run_at)
  state.fired, state.last_time, state.last_task = state.fired + 1, new.at, new.id
  made = made + 1
end

for _, new in ipairs(A.tasks) do make(new) end
if made > 0 then keep_plans(A.plans) end
if made > 0 or A.expected then state.why = why end
if A.expected then state.skipped = state.skipped + skipped end
redis.call('HSET', P .. 'schedule_state', name, cmsgpack.pack(state))
if A.expected and A.next then
  redis.call('ZADD', P .. 'schedule_due', string.format('%.17g', A.next), name)
elseif A.expected then
  redis.call('ZREM', P .. 'schedule_due', name)
end
return {made, why}
