-- Uses: task, notes
--
-- Have a notification made that a running attempt asks for.
--
-- id, token    note: its id, so that a request that is sent again makes none    fields: JSON
-- Reply: 1, or 0 when the token is not the one of the running attempt.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
if t.last_note == A.note then return 1 end
set(t, 'last_note', A.note)
tell_user(t, 'note', note_event(t, A.note), A.fields)
return 1
