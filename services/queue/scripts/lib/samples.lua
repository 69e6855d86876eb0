-- Uses: paces
--
-- Durations that are not known, as samples: lists of SAMPLES values [s], each as likely as the others. Places of one
-- list belong to those of another: a sum or a maximum is taken place by place.
--
-- Samples are no random numbers but points of a Korobov lattice (Niederreiter, "Random number generation and
-- quasi-Monte Carlo methods", 1992, section 5.1): in each dimension all 40 quantiles, in another order. A length is
-- log-normal with the mean and variance of its kind (Downey, "A parallel workload model and its implications for
-- processor allocation", 1997, finds lengths of jobs so), and the mean is as uncertain as its number of tasks says.
--
-- `forecast` is where the parts of the library stand that foresee. Each makes its functions when it is asked for, and
-- uses no variable of the parts around it: most scripts have no use for them, and pay for no more than these few.
local forecast = {}

function forecast.samples()
  local SAMPLES = 40
  -- The upper half of the quantiles of the normal distribution, at (place - 0.5) / 40.
  local Z = {0.0313, 0.0941, 0.1573, 0.2211, 0.2858, 0.3518, 0.4193, 0.4888, 0.5607, 0.6357, 0.7144, 0.7978, 0.8871,
    0.9842, 1.0916, 1.2133, 1.3563, 1.5341, 1.7805, 2.2414}
  local normal, PRIME, powers = {}, SAMPLES + 1, {1}
  for i, value in ipairs(Z) do normal[20 + i], normal[21 - i] = value, -value end
  -- 6 is a primitive root of 41: each power is another order of the places.
  for i = 2, SAMPLES do powers[i] = powers[i - 1] * 6 % PRIME end
  local LENGTHS, LEVEL, ERRORS = 24, 39, 40

  local function place(sample, dimension) return sample * powers[dimension] % PRIME end

  local LONGEST_SIGMA, LEAST = 2, 0.0001
  local function log_normal(mean, variance)
    mean = math.max(mean, LEAST)
    local squared = math.min(math.log(1 + variance / (mean * mean)), LONGEST_SIGMA ^ 2)
    return math.log(mean) - squared / 2, math.sqrt(squared)
  end

  -- The variance is not known exactly either, and kinds change: the mean is less certain than of equal tasks.
  local DOUBT = 1.5
  -- The usual length of a kind. Until a task has ended it is what the submitter expects.
  local function usual_of(known, expected)
    local mean, number = expected, 1
    local variance = (GUESSED_SPREAD * expected) ^ 2
    if known then
      mean, number = known.mean, known.number
      -- The guess counts less with the square of what has been seen.
      local guess = (GUESSED_SPREAD * mean / number) ^ 2
      variance = number > 1 and known.variance * number / (number - 1) + guess or guess
    end
    local mu, sigma = log_normal(mean, variance)
    local usual = {mean = mean, variance = variance, error = DOUBT * variance / number, mu = mu, sigma = sigma, bias = {}}
    local spread = math.min(math.sqrt(usual.error) / math.max(mean, LEAST), 1)
    for i = 1, SAMPLES do usual.bias[i] = math.exp(spread * normal[place(i, ERRORS)]) end
    return usual
  end

  local function draw(usual, sample, dimension)
    return math.exp(usual.mu + usual.sigma * normal[place(sample, dimension)]) * usual.bias[sample]
  end

  local function lengths(usual, dimension)
    local found = {}
    for i = 1, SAMPLES do found[i] = draw(usual, i, dimension) end
    return found
  end

  -- The normal distribution by a logistic one (Bowling et al., "A logistic approximation to the cumulative normal
  -- distribution", 2009), which has an inverse.
  local LINEAR, CUBIC = 1.5976, 0.07056
  local function survival(z) return 1 / (1 + math.exp(LINEAR * z + CUBIC * z ^ 3)) end
  local function quantile(share)
    local p, q = LINEAR / CUBIC, math.log(share / (1 - share)) / CUBIC
    local x = 1.5 * q / p * math.sqrt(3 / p)
    local angle = math.log(x + math.sqrt(x * x + 1)) / 3
    return math.sqrt(p / 3) * (math.exp(angle) - math.exp(-angle))
  end

  -- The rest of a log-normal duration of which `age` [s] is over. One that has outlived nearly all others is taken
  -- for one of a longer sort: the longer it takes, the longer it is going to.
  local OUTLIVED, LEAST_SIGMA = 3, 0.01
  local function rest(mu, sigma, age, dimension)
    sigma = math.max(sigma, LEAST_SIGMA)
    local z = (math.log(math.max(age, LEAST)) - mu) / sigma
    if z > OUTLIVED then mu, z = mu + (z - OUTLIVED) * sigma, OUTLIVED end
    local alive, found = survival(z), {}
    for i = 1, SAMPLES do
      local share = 1 - alive * (1 - (place(i, dimension) - 0.5) / SAMPLES)
      found[i] = math.max(math.exp(mu + sigma * quantile(share)) - age, 0)
    end
    return found
  end

  -- The rest of a running task of which only the kind is known: its age is anything.
  local function any_rest(usual, dimension)
    local found = lengths(usual, dimension)
    for i = 1, SAMPLES do found[i] = found[i] * (place(i, dimension % SAMPLES + 1) - 0.5) / SAMPLES end
    return found
  end

  local known_moments = {}
  local function moments(values)
    local known = known_moments[values]
    if known then return known[1], known[2] end
    local sum, squares = 0, 0
    for i = 1, SAMPLES do sum = sum + values[i] end
    local mean = sum / SAMPLES
    for i = 1, SAMPLES do squares = squares + (values[i] - mean) ^ 2 end
    known_moments[values] = {mean, squares / SAMPLES}
    return mean, squares / SAMPLES
  end

  -- Kinds so often as they are before, in turn.
  local function in_turn(before, number)
    local order, taken, total = {}, {}, 0
    for _, one in ipairs(before) do total = total + one.number end
    for i = 1, number do
      local best, most = 1, -math.huge
      for j, one in ipairs(before) do
        local owed = one.number * i / total - (taken[j] or 0)
        if owed > most then best, most = j, owed end
      end
      taken[best] = (taken[best] or 0) + 1
      order[i] = before[best].usual
    end
    return order
  end

  -- When the slots have taken all that is before, one task after the other: by trying it.
  local function try_out(pool, before, number)
    local order, found, slots = in_turn(before, number), {}, #pool.rests
    for i = 1, SAMPLES do
      local free, first = {}, nil
      for slot = 1, slots do free[slot] = pool.rests[slot][i] end
      for step = 1 - pool.surplus, number + 1 do
        first = 1
        for slot = 2, slots do
          if free[slot] < free[first] then first = slot end
        end
        if step < 1 then
          free[first] = math.huge
        elseif step <= number then
          free[first] = free[first] + draw(order[(step + i) % number + 1], i, step)
        end
      end
      found[i] = free[first]
    end
    return found
  end

  -- The same of many: the pooled work before over the slots that serve it, and a normal distribution of the sum. Of the
  -- other slots' work a part is still to do when one is free: the mean residual life (Cox, "Renewal theory", 1962,
  -- section 5.3).
  local function add_up(pool, before, number)
    local mean, within, squares, errors = 0, 0, 0, 0
    for _, one in ipairs(before) do
      local share, usual = one.number / number, one.usual
      mean, within = mean + share * usual.mean, within + share * usual.variance
      squares, errors = squares + share * usual.mean ^ 2, errors + share ^ 2 * usual.error
    end
    local between = math.max(squares - mean ^ 2, 0)
    local rests, weight = {}, pool.weight
    for i, one in ipairs(pool.rests) do
      local middle, variance = moments(one)
      rests[i] = {middle, variance}
    end
    table.sort(rests, function(one, other) return one[1] < other[1] end)
    for _ = 1, math.min(math.floor(pool.surplus / weight), #rests - 1) do table.remove(rests, 1) end
    local residual = mean > 0 and (mean ^ 2 + within + between) / (2 * mean) or 0
    local sum, sum_of_variances, level, slots = 0, 0, 0, 0
    for i, one in ipairs(rests) do
      slots = i * weight
      sum, sum_of_variances = sum + weight * one[1], sum_of_variances + weight * one[2]
      level = (math.max(number * mean - (slots - 1) * residual, 0) + sum) / slots
      if not rests[i + 1] or level <= rests[i + 1][1] then break end
    end
    local variance = number * (within + between * (1 - 1 / slots)) + sum_of_variances + (slots - 1) * residual ^ 2 / 3
    -- Slots that began together and whose tasks are much alike go on in step.
    local in_step = math.max(1 - 3 * math.sqrt(within * number / slots) / math.max(mean, LEAST), 0)
    local step = in_step * (1 - 1 / slots ^ 2) * mean ^ 2 / 12
    local deviation = math.sqrt(variance / slots ^ 2 + errors * (number / slots) ^ 2 + step)
    local found = {}
    for i = 1, SAMPLES do found[i] = math.max(level + deviation * normal[place(i, LEVEL)], 0) end
    return found
  end

  -- A number of tasks before another: of many, one of a few numbers that are this far apart.
  local APART = 0.02
  local function rounded(number)
    if number <= LENGTHS then return math.floor(number + 0.5) end
    return math.exp(math.floor(math.log(number) / APART + 0.5) * APART)
  end

  -- When a task starts behind `before`: {usual length, number} of each kind. `pool`: the `rests` of the tasks in its
  -- slots, zeros for a free one, each for `weight` slots; `surplus` of them are not filled again.
  local function start_behind(pool, before)
    local number = 0
    for _, one in ipairs(before) do number = number + one.number end
    local near = math.floor(number + 0.5)
    if pool.weight == 1 and near + pool.surplus <= LENGTHS then return try_out(pool, before, near) end
    return add_up(pool, before, math.max(number, 1))
  end

  -- The 10th, 50th and 90th percentile. Many tasks of one script have the same samples.
  local bands = {}
  local function band_of(values)
    local known = bands[values]
    if not known then
      local sorted = {unpack(values)}
      table.sort(sorted)
      known = {(sorted[4] + sorted[5]) / 2, (sorted[20] + sorted[21]) / 2, (sorted[36] + sorted[37]) / 2}
      bands[values] = known
    end
    return unpack(known)
  end

  local function constant(seconds)
    local found = {}
    for i = 1, SAMPLES do found[i] = seconds end
    return found
  end

  -- The maximum of two; the first may be nil.
  local maxima = {}
  local function later(one, other)
    if not one then return other end
    maxima[one] = maxima[one] or {}
    local found = maxima[one][other]
    if not found then
      found = {}
      for i = 1, SAMPLES do found[i] = math.max(one[i], other[i]) end
      maxima[one][other] = found
    end
    return found
  end

  local function sum(one, other)
    local found = {}
    for i = 1, SAMPLES do found[i] = one[i] + other[i] end
    return found
  end

  return {usual_of = usual_of, lengths = lengths, rest = rest, any_rest = any_rest, start_behind = start_behind,
    band_of = band_of, rounded = rounded, constant = constant, later = later, sum = sum}
end
