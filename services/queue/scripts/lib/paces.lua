-- Uses: base
--
-- How long the tasks of a kind take: the exponentially weighted mean and variance of its last tasks [s, s²] (Finch,
-- "Incremental calculation of weighted mean and variance", 2009, section 9), and how many these stand for.
--
-- `pace` has the mean under the kind, as every version has kept it, and under the kind with a line break behind it
-- the variance and the number. An earlier version keeps the mean alone: then the variance is not known.

-- The first tasks of a kind weigh alike. Later ones weigh an eighth, which is as good as the mean of the last 15.
local EVENLY, MOST_COUNTED = 8, 15
-- Until more is known the standard deviation is this part of the mean.
local GUESSED_SPREAD = 0.5

local paces, changed_paces = {}, {}

-- {mean, variance, number}; nil until a task of the kind has ended. Read once.
local function pace_of(kind)
  local known = paces[kind]
  if known == nil then
    local found = redis.call('HMGET', P .. 'pace', kind, pair(kind, ''))
    local mean = tonumber(found[1] or '')
    if mean and not (mean >= 0 and mean < math.huge) then mean = nil end
    local variance, number = string.match(found[2] or '', '^(%S+) (%d+)$')
    variance, number = tonumber(variance or ''), tonumber(number or '')
    if mean and not (variance and variance >= 0 and number and number > 0) then
      variance, number = (GUESSED_SPREAD * mean) ^ 2, EVENLY
    end
    known = mean and {mean = mean, variance = variance, number = number} or false
    paces[kind] = known
  end
  return known or nil
end

local function note_length(kind, seconds)
  local known = pace_of(kind) or {mean = 0, variance = 0, number = 0}
  local share = 1 / math.min(known.number + 1, EVENLY)
  local gained = math.max(seconds, 0) - known.mean
  local step = gained * share
  known.mean = known.mean + step
  known.variance = (1 - share) * (known.variance + gained * step)
  known.number = math.min(known.number + 1, MOST_COUNTED)
  paces[kind], changed_paces[kind] = known, true
end

finishers[#finishers + 1] = function()
  for kind in pairs(changed_paces) do
    local known = paces[kind]
    redis.call('HSET', P .. 'pace', kind, string.format('%.4f', known.mean),
      pair(kind, ''), string.format('%.6g %d', known.variance, known.number))
  end
end
