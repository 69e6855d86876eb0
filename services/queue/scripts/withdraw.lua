-- Uses: task, notes
--
-- Ask no longer, for the running attempt has waited long enough.
--
-- id, token    name: of the question
-- Reply: {the answer (JSON), "" when there is none}, or 0 when the token is not the one of the running attempt.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
local answer = redis.call('HGET', kept_key(A.id), A.name)
if answer then return {answer} end
local question = read_question(A.id, A.name)
if question then withdraw_question(t, A.name, question) end
return {''}
