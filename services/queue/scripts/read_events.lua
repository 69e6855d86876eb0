-- Read what came after a cursor.
--
-- ARGV[3] "task" or "batch"    ARGV[4] its id
-- ARGV[5] the cursor's epoch; "": no cursor       ARGV[6] the cursor's offset
-- Reply: nil when there is none, else {epoch, last offset, snapshot, finished data or "",
-- why the gap cannot be filled or "", flat list of offset, type, data}.
local kind, id = ARGV[3], ARGV[4]
local key = kind == 'task' and task_key(id) or batch_key(id)
local fields = read_hash(key)
if not fields then return false end
local last, after = tonumber(fields.event_seq), tonumber(ARGV[6])
local resync, events = '', {}

if ARGV[5] ~= '' then
  local first = redis.call('XRANGE', events_key(kind, id), '-', '+', 'COUNT', 1)[1]
  local oldest = first and tonumber(string.sub(first[1], 3)) or last + 1
  if ARGV[5] ~= the_epoch() or after > last then
    resync = 'epoch'
  elseif after + 1 < oldest then
    resync = 'trimmed'
  else
    local found = redis.call('XRANGE', events_key(kind, id), '0-' .. (after + 1), '+')
    for _, entry in ipairs(found) do
      events[#events + 1] = string.sub(entry[1], 3)
      events[#events + 1] = entry[2][2]
      events[#events + 1] = entry[2][4]
    end
  end
end
local shown = kind == 'task' and snapshot(fields) or batch_snapshot(fields)
return {the_epoch(), last, shown, fields.finished or '', resync, events}
