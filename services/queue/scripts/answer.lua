-- Uses: task, notes
--
-- Keep what a user has answered, as a result of the task, and tell who waits for it.
--
-- id, user    name: of the question    note: its id    option: the id of the one chosen    value: the answer (JSON)
-- Reply: 1, or 0 when the task has not asked this, or does not any more.
local t = load_task(A.id)
if not t or t.user_id ~= A.user then return 0 end
local question = read_question(A.id, A.name)
if not question or question[1] ~= A.note then return 0 end
local offered = false
for _, option in ipairs(question[3]) do offered = offered or option == A.option end
if not offered then return 0 end
redis.call('HSET', kept_key(A.id), A.name, A.value)
redis.call('HDEL', asked_key(A.id), A.name)
redis.call('PUBLISH', 'rt:workers', '{"type":"answer","data":{"task_id":"' .. A.id .. '"}}')
return 1
