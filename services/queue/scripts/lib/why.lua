-- Uses: task, rates
--
-- Return the code of the limit that holds a waiting task back. Limits over all come first, then those of its
-- kind, its user and its key; "line" when only older tasks are before it; "" when it does not wait.
local function waiting_for(t)
  if t.status == 'delayed' then return 'schedule' end
  if t.status ~= 'queued' then return '' end
  local both = pair(t.kind, t.user_id)
  local all, own = all_limits(), read_limits(redis.call('HGET', P .. 'limits', t.kind))
  local function is_full(hash, field, limit)
    return (limit or 0) > 0 and counted(hash, field) >= limit
  end
  local paused = redis.call('SMISMEMBER', P .. 'paused', '', t.kind)
  if paused[1] == 1 or paused[2] == 1 then return 'paused' end
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
  return 'line'
end
