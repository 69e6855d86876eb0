-- Uses: moves
--
-- Have a notification made that a running attempt asks for.
--
-- id, token    note: its id, so that a request that is sent again makes none    fields: JSON
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
if t.last_note == A.note then return 1 end
set(t, 'last_note', A.note)
redis.call('XADD', P .. 'outbox', '*', 'event_id', A.id .. ':' .. A.note, 'kind', 'note', 'user_id', t.user_id,
  'task_id', A.id, 'task_kind', t.kind, 'batch_id', t.batch_id, 'status', 'processing', 'result', A.fields,
  'error', '', 'job', t.job, 'ended_at', NOW_STAMP)
return 1
