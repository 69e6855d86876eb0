-- Uses: task
--
-- The changes of a watching user's tasks (`/api/ws`, topic `tasks`).
--
-- A watch is a hash `watch:{user}` of `epoch` and `seq`, the number of the last event; `changes:{user}` is the list
-- of the last events. Both expire, unless readers renew them. Nothing is kept for a user without a watch, and while
-- there is none at all, which `watching` tells, that is not even looked up.
--
-- Invariant: the list ends with the event whose number is `seq`, and has no gap. The first event has the number 2:
-- a reader who stands at 0 has missed something.

-- The functions of the finisher are made in it: most scripts have no use for them.
local note_change, note_removal
do
  -- A message has at most this many tasks.
  local TOGETHER = 50
  -- For each user, `order`: the ids of tasks that changed, `changed`: these tasks by id, and
  -- `removed`: the ids of those that are gone. nil until it is known whether somebody watches,
  -- false while nobody does.
  local of_users

  local function changes_of(user)
    if of_users == nil then of_users = redis.call('EXISTS', P .. 'watching') == 1 and {} end
    if not of_users then return nil end
    of_users[user] = of_users[user] or {order = {}, changed = {}, removed = {}}
    return of_users[user]
  end

  function note_change(t)
    local own = of_users ~= false and changes_of(t.user_id)
    if not own or own.changed[t.task_id] then return end
    own.changed[t.task_id] = t
    own.order[#own.order + 1] = t.task_id
  end

  function note_removal(user, id)
    local own = of_users ~= false and changes_of(user)
    if not own then return end
    own.changed[id] = nil
    own.removed[#own.removed + 1] = id
  end

  -- Behind all others: what is told of a place in the line is true by then.
  finishers[#finishers + 1] = function()
    if not of_users then return end

    local function moment_of(name, at)
      return at and at ~= '' and ',"' .. name .. '":"' .. iso(at) .. '"' or ''
    end

    -- The part of an item of a list that may change, as JSON. When they start is looked for of the first alone: one
    -- script must not hold up all.
    local MOST_STARTS, told = 20, 0
    local function item(t)
      told = told + 1
      local head = string.gsub(snapshot(t, told > MOST_STARTS), ',$', '')
      local reason = t.error ~= '' and ',"error":' .. cjson.encode(t.error) or ''
      return '{' .. head .. ',"progress":' .. string.format('%.4g', t.percent) .. reason
        .. moment_of('created_at', t.created_at) .. moment_of('started_at', t.started_at)
        .. moment_of('ended_at', t.ended_at) .. '}'
    end

    -- Return the changes as the members of JSON objects, one for each message.
    local function messages_of(own)
      local items, messages = {}, {}
      local function close()
        if #items == 0 then return end
        messages[#messages + 1] = '"items":[' .. table.concat(items, ',') .. '],"deleted":[]'
        items = {}
      end
      for _, id in ipairs(own.order) do
        local t = own.changed[id]
        if t then items[#items + 1] = item(t) end
        if #items == TOGETHER then close() end
      end
      close()
      if #own.removed > 0 then
        messages[#messages + 1] = '"items":[],"deleted":["' .. table.concat(own.removed, '","') .. '"]'
      end
      return messages
    end

    for user, own in pairs(of_users) do
      local watch, list = P .. 'watch:' .. user, P .. 'changes:' .. user
      local found = redis.call('HMGET', watch, 'epoch', 'seq')
      if found[1] and found[2] then
        local seq = tonumber(found[2])
        for _, members in ipairs(messages_of(own)) do
          seq = seq + 1
          local message = '{"type":"changed","data":{' .. members .. '},"id":"' .. found[1] .. '-' .. whole(seq) .. '"}'
          redis.call('RPUSH', list, message)
          redis.call('PUBLISH', 'rt:tasks:' .. user, message)
        end
        redis.call('HSET', watch, 'seq', whole(seq))
        redis.call('LTRIM', list, -MAX_EVENTS, -1)
        redis.call('PEXPIRE', list, math.max(redis.call('PTTL', watch), 1))
      end
    end
  end
end
