-- Uses: task, batch
--
-- Read what came after a cursor.
--
-- what: "task" or "batch"     id
-- epoch: the cursor's, "": no cursor              after: the cursor's offset
-- Reply: nil when there is none, else {epoch, last offset, snapshot, finished data or "", why the
-- gap cannot be filled or "", the messages after the cursor}.
local kind, id, asked_epoch, after = A.what, A.id, A.epoch, A.after
local record, shown, finished, unlogged
if kind == 'task' then
  record = load_task(id)
  if not record then return false end
  local head, fragment = snapshot(record)
  shown = head .. fragment
  finished = ENDED[record.status] and task_end(record)
  unlogged = told(record)
else
  record = load_batch(id)
  if not record then return false end
  shown = batch_data(record)
  finished = record.ended_at and batch_end(record)
  unlogged = finished and {envelope('finished', record.event_seq, finished)} or {}
end

local last, resync, messages = tonumber(record.event_seq), '', {}
if asked_epoch ~= '' then
  -- The first event was never logged: a reader before it gets the snapshot while that is all there is, and else
  -- its successor.
  local logged = read_log(kind, id, record, math.max(after, 1))
  if asked_epoch ~= the_epoch() or after > last then
    resync = 'epoch'
  elseif not logged then
    resync = 'trimmed'
  elseif after == 0 and last == 1 then
    messages = {envelope('progress', 1, shown)}
  else
    messages = logged
    -- The messages after the cursor.
    local unseen = math.min(last - after, #unlogged)
    for i = #unlogged - unseen + 1, #unlogged do messages[#messages + 1] = unlogged[i] end
    -- Nobody may have heard the last one: then it was logged without the times that are foreseen.
    local foresees = kind == 'batch' and not finished or record.status == 'queued'
    if foresees and #messages > 0 then messages[#messages] = envelope('progress', last, shown) end
  end
end
return {the_epoch(), last, '{' .. shown .. '}', finished and '{' .. finished .. '}' or '', resync,
  messages}
