-- Uses: task, rates

-- Most users before the one of a task that are looked at.
local MOST_BEFORE = 20

-- Whether nothing that may start is before a task in the lines of its kind: who comes before is at their limit.
-- `is_at_limit`: whether a user is.
local function is_next(t, is_at_limit)
  -- One that is not there yet comes behind all.
  local here = t.task_id and position(t.task_id, t.line) or last_position(t.line) + 1
  if here == 1 then return true end
  local function find(level)
    local users = redis.call('ZRANGE', P .. 'ready:' .. level .. t.kind, 0, MOST_BEFORE - 1)
    for _, user in ipairs(users) do
      if not is_at_limit(user) then return user end
    end
    -- One behind them may be.
    return #users == MOST_BEFORE and '' or nil
  end
  local level = tonumber(string.sub(t.line, 1, 1))
  for higher = 0, level - 1 do
    if find(higher) then return false end
  end
  if find(level) ~= t.user_id then return false end
  local own = user_line(t.line, t.user_id)
  if t.key == '' then return is_first(own, t.task_id) end
  return is_first(own, MARK .. t.key) and is_first(lane_of(t.line, t.user_id, t.key), t.task_id)
end

-- Return the code of what holds a waiting task back. A pause comes first, of all kinds ("all_paused") or its own,
-- then limits over all, those of its kind, its user and its key; "busy" when it is next and only workers are
-- wanting, "line" when others are before it; "" when it does not wait.
local function waiting_for(t)
  if t.status == 'delayed' then return 'schedule' end
  if t.status ~= 'queued' then return '' end
  local both = pair(t.kind, t.user_id)
  local all, own = all_limits(), read_limits(redis.call('HGET', P .. 'limits', t.kind))
  local function is_full(hash, field, limit)
    return (limit or 0) > 0 and counted(hash, field) >= limit
  end
  local paused = redis.call('SMISMEMBER', P .. 'paused', '', t.kind)
  if paused[1] == 1 then return 'all_paused' end
  if paused[2] == 1 then return 'paused' end
  if is_full('active', t.user_id, all.user_limit) then return 'user_limit' end
  if is_full('active_of', both, own.user_limit) then return 'kind_user_limit' end
  if t.key ~= '' and is_full('keys', pair(t.kind, t.key), own.key_limit) then return 'key_limit' end
  if t.key ~= '' and own.key_rate and seconds_to_token(pair(t.kind, t.key), own.key_rate, own.key_rate_since) > 0 then
    return 'key_rate'
  end
  if is_full('running', t.kind, own.limit) then return 'kind_limit' end
  if own.rate and seconds_to_token(t.kind, own.rate, own.rate_since) > 0 then return 'rate' end
  if (all.global_limit or 0) > 0 and redis.call('ZCARD', P .. 'processing') >= all.global_limit then
    return 'global_limit'
  end
  local function is_at_limit(user)
    return is_full('active', user, all.user_limit) or is_full('active_of', pair(t.kind, user), own.user_limit)
  end
  return is_next(t, is_at_limit) and 'busy' or 'line'
end
