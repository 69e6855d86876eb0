-- Uses: task, notes
--
-- Have the user of a running attempt asked, unless they are asked already. Another question under the same name
-- takes the place of the one before.
--
-- id, token    name: of the question    note: its id    options: their ids    fields: of the notification (JSON)
-- Reply: {the answer (JSON), "" while there is none, since when it is asked [s]}, or 0 when the token is not the
-- one of the running attempt. Repeated it asks nobody again.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
local answer = redis.call('HGET', kept_key(A.id), A.name)
if answer then return {answer, '0'} end
local question = read_question(A.id, A.name)
if question and table.concat(question[3], '\n') == table.concat(A.options, '\n') then
  return {'', string.format('%.3f', math.max(NOW - tonumber(question[2]), 0))}
end
if question then withdraw_question(t, A.name, question) end
-- A later attempt reads what was kept only of a task that has kept something.
if t.kept == '' then set(t, 'kept', '1') end
redis.call('HSET', asked_key(A.id), A.name, cmsgpack.pack({A.note, NOW_STAMP, A.options}))
tell_user(t, 'ask', note_event(t, A.note), A.fields)
return {'', '0'}
