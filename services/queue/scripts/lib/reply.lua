-- Uses: task
--
-- What Python needs of a task.

local REPLIED = {'task_id', 'user_id', 'kind', 'job', 'batch_id', 'status', 'key', 'max_attempts', 'attempt',
  'created_at', 'started_at', 'ended_at', 'result', 'error', 'percent', 'attempts', 'level'}

-- Its fields, and its position while it waits.
local function brief_reply(t, here)
  local flat = {}
  for _, field in ipairs(REPLIED) do put(flat, field, t[field]) end
  if here then put(flat, 'position', tostring(here)) end
  return flat
end

-- Also its snapshot. `is_brief`: without when it starts, which is looked for a millisecond.
local function reply(t, is_brief)
  local head, fragment, here = snapshot(t, is_brief)
  local flat = brief_reply(t, here)
  if t.status == 'delayed' then
    put(flat, 'run_at', redis.call('ZSCORE', P .. 'delayed', t.task_id) or '')
  end
  put(flat, 'used', string.format('%.6f', used_seconds(t)))
  put(flat, 'snapshot', '{' .. head .. fragment .. '}')
  return flat
end
