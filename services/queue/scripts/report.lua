-- Uses: moves
--
-- Keep and publish the progress of a running attempt.
--
-- id, token    fragment: of the snapshot (JSON, no braces)    percent: text
-- state: what the handler keeps (JSON), nil: as it is         plan, text: a plan that it takes on, nil: as it is
-- Reply: 1, or 0 when the token is not the one of the running attempt. Progress never goes
-- backwards within an attempt: an older report changes nothing, nor does one of no percentage.
local t = load_task(A.id)
if not t or t.status ~= 'processing' or t.token ~= A.token then return 0 end
if A.state then set(t, 'state', A.state, 'kept', '1') end
local before, percent = tonumber(t.percent), tonumber(A.percent)
if not (percent >= before and percent <= 100) or A.fragment == t.fragment then return 1 end
if A.plan then
  redis.call('HSETNX', P .. 'plans', A.plan, A.text)
  if A.plan ~= t.plan and not string.find(' ' .. t.plans .. ' ', ' ' .. A.plan .. ' ', 1, true) then
    use_plan(A.plan)
    set(t, 'plans', t.plans == '' and A.plan or t.plans .. ' ' .. A.plan)
  end
end
keep_told(t)
set(t, 'fragment', A.fragment, 'percent', A.percent)
emit_progress(t)
follow_in_batch(t, 'processing', before)
return 1
