-- Uses: samples
--
-- Read how long tasks of kinds usually take.
--
-- kinds: names
-- Reply: for each {median, 10th percentile, 90th percentile} as texts [s], or {} until one of its tasks has ended.
local samples, found = forecast.samples(), {}
for i, kind in ipairs(A.kinds) do
  local known = pace_of(kind)
  found[i] = {}
  if known then
    local low, middle, high = samples.band_of(samples.lengths(samples.usual_of(known, 0), 22))
    found[i] = {stamp(middle), stamp(low), stamp(high)}
  end
end
return found
