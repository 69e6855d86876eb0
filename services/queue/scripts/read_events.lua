-- Read what came after a cursor.
--
-- ARGV[3] "task" or "batch"    ARGV[4] its id
-- ARGV[5] the cursor's epoch; "": no cursor       ARGV[6] the cursor's offset
-- Reply: nil when there is none, else {epoch, last offset, snapshot, finished data or "", why the
-- gap cannot be filled or "", the messages after the cursor}.
local kind, id, asked_epoch, after = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local record, shown, finished
if kind == 'task' then
  record = load_task(id)
  if not record then return false end
  local head, fragment = snapshot(record)
  shown = head .. fragment
  finished = ENDED[record.status] and task_end(record)
else
  record = load_batch(id)
  if not record then return false end
  shown = batch_data(record)
  finished = record.ended_at and batch_end(record)
end

local last, resync, messages = tonumber(record.event_seq), '', {}
if asked_epoch ~= '' then
  local first = redis.call('XRANGE', events_key(kind, id), '-', '+', 'COUNT', 1)[1]
  local oldest = first and tonumber(string.sub(first[1], 3)) or last + 1
  if asked_epoch ~= the_epoch() or after > last then
    resync = 'epoch'
  elseif after + 1 < oldest then
    resync = 'trimmed'
  else
    local found = redis.call('XRANGE', events_key(kind, id), '0-' .. (after + 1), '+')
    for i, entry in ipairs(found) do messages[i] = entry[2][2] end
    if finished and after < last then
      messages[#messages + 1] = envelope('finished', last, finished, '')
    end
  end
end
return {the_epoch(), last, '{' .. shown .. '}', finished and '{' .. finished .. '}' or '', resync,
  messages}
