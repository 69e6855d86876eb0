-- Uses: base
--
-- Schedules: what makes tasks by the clock. Each is named by its user and by its own name, with a line break
-- between them.
--
-- `schedules` has its definition, Python's alone, and `schedule_names` its name, all in one order;
-- `schedule_due` its next time; `schedule_state` what has become of it; `schedules_off` names those that are
-- switched off; `schedule_kinds` has, by kind, which schedules the code has registered, and of which version.
--
-- Invariant: what any of them names is in `schedules` and `schedule_names`; what is off is not due.

local function definition_of(name) return redis.call('HGET', P .. 'schedules', name) or '' end

local NEVER_FIRED = {fired = 0, skipped = 0, last_time = 0, last_task = '', why = ''}
local function state_of(name)
  local packed = redis.call('HGET', P .. 'schedule_state', name)
  local readable, state = pcall(cmsgpack.unpack, packed)
  if not readable or type(state) ~= 'table' then state = {} end
  for field, value in pairs(NEVER_FIRED) do
    if type(state[field]) ~= type(value) then state[field] = value end
  end
  return state
end

-- Let all processes know that a schedule falls due, so that none of them has to look for it.
local function announce_schedule(due)
  redis.call('PUBLISH', 'rt:schedules',
    '{"type":"wake","data":{"due_in":' .. string.format('%.3f', math.max(due - NOW, 0)) .. '}}')
end

-- A schedule as Python reads it.
local function schedule_reply(name)
  local due = redis.call('ZSCORE', P .. 'schedule_due', name)
  local state = state_of(name)
  return {name, definition_of(name), due or '', redis.call('SISMEMBER', P .. 'schedules_off', name),
    {state.fired, state.skipped, string.format('%.17g', state.last_time), state.last_task, state.why}}
end
