-- Uses: line
--
-- Rates: how many tasks of a kind, or of a kind and key, may start in a time. A token bucket by Redis's
-- clock, kept as one number: when it will be full again (GCRA, ATM Forum TM 4.1, section 4.4.3). It holds as
-- many tokens as the rate names, so that at most `count` start at once and `count * (1 + t / seconds)` in `t`.
local time_when_full, seconds_to_token, take_token
do
  -- In whole microseconds: Redis keeps and compares integers faster than floats.
  local FINE = 0.000001
  local full_at = {}
  -- A rate is {count, seconds} and holds `since` a time. No bucket of it is full later than its period from now:
  -- one that is comes of a slower rate before, and was empty when that was changed.
  function time_when_full(name, rate, since)
    local full = full_at[name]
    if not full then
      full = tonumber(redis.call('ZSCORE', P .. 'buckets', name) or 0) * FINE
      if full > NOW + rate[2] + FINE then full = (since or 0) + rate[2] end
      full = math.max(full, NOW)
      full_at[name] = full
    end
    return full
  end

  -- In how many seconds there is a token; 0 when there is one.
  function seconds_to_token(name, rate, since)
    local wait = time_when_full(name, rate, since) - NOW - rate[2] * (1 - 1 / rate[1])
    return wait > FINE and wait or 0
  end

  local taken_tokens = {}
  function take_token(name, rate, since)
    full_at[name] = time_when_full(name, rate, since) + rate[2] / rate[1]
    taken_tokens[name] = true
  end

  finishers[#finishers + 1] = function()
    local flat = {}
    for name in pairs(taken_tokens) do put(flat, string.format('%d', math.ceil(full_at[name] / FINE)), name) end
    add_to_skip_list(P .. 'buckets', flat)
  end
end

-- One script looks at this many keys at most.
local MOST_KEYS = 20

-- Let in what waits for keys that have a token again, or that have more lanes than came back at once.
local function look_at_keys(is_key_full, look_again_in)
  local rested = redis.call('ZRANGEBYSCORE', P .. 'resting', '-inf', NOW_STAMP, 'LIMIT', 0, MOST_KEYS)
  for _, both in ipairs(rested) do
    redis.call('ZREM', P .. 'resting', both)
    let_in(split(both))
  end
  if #rested == MOST_KEYS then look_again_in(0) end
  for _, kind in ipairs(A.kinds) do
    local loose = redis.call('ZRANGE', P .. 'loose:' .. kind, 0, MOST_KEYS - 1)
    for _, key in ipairs(loose) do
      if is_key_full(kind, pair(kind, key)) then
        -- When it is free again it lets in more.
        redis.call('ZREM', P .. 'loose:' .. kind, key)
      else
        let_in(kind, key)
      end
    end
  end
end

-- Say when to look at the next of them.
local function look_for_rest(look_again_in)
  local first = redis.call('ZRANGE', P .. 'resting', '0', '0', 'WITHSCORES')[2]
  if first then look_again_in(first - NOW) end
  for _, kind in ipairs(A.kinds) do
    if redis.call('EXISTS', P .. 'loose:' .. kind) == 1 then look_again_in(0) end
  end
end
