-- Uses: base
--
-- Notes and questions of a running task to its user.
--
-- Invariant: `asked` of a task holds the questions that have no answer yet, by their names; an ended task has none.

local function asked_key(id) return P .. 'asked:' .. id end

-- `kind`: "note", "ask", or "withdraw" for a question that nobody is to answer any more.
local function tell_user(t, kind, event_id, fields)
  redis.call('XADD', P .. 'outbox', '*', 'event_id', event_id, 'kind', kind, 'user_id', t.user_id,
    'task_id', t.task_id, 'task_kind', t.kind, 'batch_id', t.batch_id, 'status', 'processing', 'result', fields,
    'error', '', 'job', t.job, 'ended_at', NOW_STAMP)
end

-- A question is kept as {id of its note, when it was asked, the ids of its options}. nil when there is none, or
-- none that can be read.
local function read_question(id, name)
  local readable, question = pcall(cmsgpack.unpack, redis.call('HGET', asked_key(id), name) or '')
  if readable and type(question) == 'table' and tonumber(question[2]) and type(question[3]) == 'table' then
    return question
  end
end

local function note_event(t, note) return t.task_id .. ':' .. note end

local function withdraw_question(t, name, question)
  redis.call('HDEL', asked_key(t.task_id), name)
  local event_id = note_event(t, question[1])
  tell_user(t, 'withdraw', event_id .. ':withdrawn', cjson.encode({event_id = event_id}))
end

local function withdraw_questions(t)
  for _, name in ipairs(redis.call('HKEYS', asked_key(t.task_id))) do
    local question = read_question(t.task_id, name)
    if question then withdraw_question(t, name, question) end
  end
  redis.call('DEL', asked_key(t.task_id))
end
