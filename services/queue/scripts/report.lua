-- Uses: moves
--
-- Keep and publish the progress of a running attempt.
--
-- id, token    fragment: of the snapshot (JSON, no braces)    percent: text
-- state: what the handler keeps (JSON), nil: as it is         plan, text: a plan that it takes on, nil: as it is
-- Reply: 1, or 0 when the token is not the one of the running attempt. Progress never goes
-- backwards within an attempt: an older report changes nothing, nor does one of no percentage.

-- A handler may find its steps on the way. Of the plans that a task has taken on the last are kept: as many as
-- its log has events that may name them, and more than a few only within a number of bytes. Plans grow, so none
-- is much longer than the newest.
local SOME_PLANS, PLAN_BYTES = 8, 262144
local function take_on(t, digest, text)
  if digest == t.plan or string.find(' ' .. t.plans .. ' ', ' ' .. digest .. ' ', 1, true) then return end
  redis.call('HSETNX', P .. 'plans', digest, text)
  use_plan(digest)
  local plans = {}
  for one in string.gmatch(t.plans, '%S+') do plans[#plans + 1] = one end
  plans[#plans + 1] = digest
  local most = math.max(math.min(math.floor(PLAN_BYTES / #text), MAX_EVENTS), SOME_PLANS)
  while #plans > most do
    local oldest = table.remove(plans, 1)
    count('plan_uses', oldest, -1)
    if counted('plan_uses', oldest) <= 0 and redis.call('SISMEMBER', P .. 'pinned_plans', oldest) == 0 then
      redis.call('HDEL', P .. 'plans', oldest)
    end
  end
  set(t, 'plans', table.concat(plans, ' '))
end

local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
if A.state then set(t, 'state', A.state, 'kept', '1') end
local before, percent = tonumber(t.percent), tonumber(A.percent)
if not (percent >= before and percent <= 100) or A.fragment == t.fragment then return 1 end
if A.plan then take_on(t, A.plan, A.text) end
keep_told(t)
set(t, 'fragment', A.fragment, 'percent', A.percent)
emit_progress(t)
-- A list shows whole percents.
if math.floor(percent) ~= math.floor(before) then note_change(t) end
follow_in_batch(t, 'processing', before)
return 1
