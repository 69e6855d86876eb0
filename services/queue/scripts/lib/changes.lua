-- Uses: task
--
-- What changes among the tasks of a user who watches them (`/api/ws`, topic `tasks`).
--
-- A watch is a hash `watch:{user}` of `epoch` and `seq`, the number of the last event; `changes:{user}` is the list
-- of the last events. Both expire, unless readers renew them. Nothing is kept for a user without a watch, and while
-- there is none at all, which `watching` tells, that is not even looked up.
--
-- Invariant: the list ends with the event whose number is `seq`, and has no gap. The first event has the number 2:
-- a reader who stands at 0 has missed something.

-- A message has at most this many tasks.
local TOGETHER = 50

local note_change, note_removal
do
  -- By user: the tasks that changed, by id and in their order, and the ids of those that are gone.
  local changed, order, removed, users = {}, {}, {}, {}

  local function know(user)
    if changed[user] then return end
    changed[user], order[user], removed[user] = {}, {}, {}
    users[#users + 1] = user
  end

  function note_change(t)
    local user, id = t.user_id, t.task_id
    know(user)
    if changed[user][id] then return end
    changed[user][id] = t
    order[user][#order[user] + 1] = id
  end

  function note_removal(user, id)
    know(user)
    changed[user][id] = nil
    removed[user][#removed[user] + 1] = id
  end

  local function moment_of(name, at)
    return at and at ~= '' and ',"' .. name .. '":"' .. iso(at) .. '"' or ''
  end

  -- The part of an item of a list that may change, as JSON.
  local function item(t)
    local head = snapshot(t)
    if string.sub(head, -1) == ',' then head = string.sub(head, 1, -2) end
    local reason = t.error ~= '' and ',"error":' .. cjson.encode(t.error) or ''
    return '{' .. head .. ',"progress":' .. string.format('%.4g', t.percent) .. reason
      .. moment_of('created_at', t.created_at) .. moment_of('started_at', t.started_at)
      .. moment_of('ended_at', t.ended_at) .. '}'
  end

  -- Return the changes as the members of JSON objects, a message each.
  local function messages_of(user)
    local items, messages = {}, {}
    local function close()
      if #items == 0 then return end
      messages[#messages + 1] = '"items":[' .. table.concat(items, ',') .. '],"deleted":[]'
      items = {}
    end
    for _, id in ipairs(order[user]) do
      local t = changed[user][id]
      if t then items[#items + 1] = item(t) end
      if #items == TOGETHER then close() end
    end
    close()
    if #removed[user] > 0 then
      messages[#messages + 1] = '"items":[],"deleted":["' .. table.concat(removed[user], '","') .. '"]'
    end
    return messages
  end

  local function tell_watchers(user)
    local watch, list = P .. 'watch:' .. user, P .. 'changes:' .. user
    local found = redis.call('HMGET', watch, 'epoch', 'seq')
    if not found[1] or not found[2] then return end
    local seq = tonumber(found[2])
    for _, members in ipairs(messages_of(user)) do
      seq = seq + 1
      local message = '{"type":"changed","data":{' .. members .. '},"id":"' .. found[1] .. '-' .. whole(seq) .. '"}'
      redis.call('RPUSH', list, message)
      redis.call('PUBLISH', 'rt:tasks:' .. user, message)
    end
    redis.call('HSET', watch, 'seq', whole(seq))
    redis.call('LTRIM', list, -MAX_EVENTS, -1)
    redis.call('PEXPIRE', list, math.max(redis.call('PTTL', watch), 1))
  end

  -- Behind all others: what is told of a place in the line is true by then.
  finishers[#finishers + 1] = function()
    if #users == 0 or redis.call('EXISTS', P .. 'watching') == 0 then return end
    for _, user in ipairs(users) do tell_watchers(user) end
  end
end
