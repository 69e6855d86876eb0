-- Uses: records
--
-- The fields of a task: those that are known when it is made are one packed field of its record.

-- Facts about a task that are known when it is made, each as text. `job` is Python's alone. Only
-- the batch can change, when the task is run again after the end of its batch.
local MADE = {'user_id', 'batch_id', 'created_at', 'seq', 'kind', 'level', 'key', 'max_attempts', 'expected',
  'notify', 'unique', 'plan', 'head', 'first', 'job'}
local MADE_FIELDS = #MADE
-- `AT`: the places of these fields.
local TASK, AT = kind_of_record({
  token = '', closed = '', attempt = '0', percent = '0', event_seq = '1',
  logged = '1', revived = '0', fragment = '', result = '', error = '', started_at = '', used = '',
  ended_at = '', since = '', attempts = '', plans = '', kept = '', state = '', journal = '',
}, MADE, {line = function(t) return t.level .. t.kind end})

local read_made
do
  local ARRAY_16 = 0xdc
  -- Reading them into variables costs less than a table that grows.
  local function unpack_made(packed)
    local first = string.byte(packed) == ARRAY_16 and 3 or 1
    local _, user, batch, created, seq, kind, level, key, attempts, expected, notify, unique, plan, head,
      fragment, job = cmsgpack.unpack_limit(packed, MADE_FIELDS, first)
    -- Lua raises an error when it compares text with anything else.
    if user < '' or batch < '' or created < '' or seq < '' or kind < '' or level < '' or key < '' or attempts < ''
        or expected < '' or notify < '' or unique < '' or plan < '' or head < '' or fragment < '' or job < '' then
      return nil
    end
    return {user, batch, created, seq, kind, level, key, attempts, expected, notify, unique, plan, head, fragment, job}
  end

  -- The values of the fields of MADE, nil when they cannot be read. A later version may keep more behind them.
  function read_made(packed)
    local readable, values = pcall(unpack_made, packed)
    return readable and values or nil
  end
end
