-- Uses: task
--
-- What Python needs of a task.

local REPLIED = {'task_id', 'user_id', 'symbol', 'params', 'batch_id', 'status', 'attempt',
  'created_at', 'started_at', 'ended_at', 'result', 'error', 'percent'}

-- Its fields, and its position while it waits.
local function brief_reply(t, here)
  local flat = {}
  for _, field in ipairs(REPLIED) do put(flat, field, t[field]) end
  if here then put(flat, 'position', tostring(here)) end
  return flat
end

-- Also its snapshot.
local function reply(t)
  local head, fragment, here = snapshot(t)
  local flat = brief_reply(t, here)
  put(flat, 'snapshot', '{' .. head .. fragment .. '}')
  return flat
end
