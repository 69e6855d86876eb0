-- Uses: reply, found, why
--
-- Find tasks among all, the newest first, by their terms (lib/found.lua).
--
-- terms: all of which a task has     statuses: it is in one of these, {}: in any
-- id: a task that is found without its words' terms, "" for none     own: the terms that it has all the same
-- before: a number of submission, nil: from the newest     since, till: only those made then [s since 1970], nil: any
-- most: how many at most     blocks, read: how many blocks, and records, are looked at, at most
-- brief: whether the ids are enough
-- Reply: {the tasks, or {id, status} of each; where it goes on or ""}.
local OPEN = {queued = true, delayed = true, processing = true}
local wanted, any_open, all_open, ended = {}, #A.statuses == 0, true, {}
for _, status in ipairs(A.statuses) do
  wanted[status] = true
  if OPEN[status] then any_open = true else ended[#ended + 1] = 's' .. status end
end
for status in pairs(OPEN) do all_open = all_open and wanted[status] end
local ENDS = {'scompleted', 'sfailed', 'scancelled', 'sdead'}

-- A set of offsets as eight numbers of 32 bits.
local NONE, WORDS = {0, 0, 0, 0, 0, 0, 0, 0}, 8
local function numbers_of(set)
  if not set then return NONE end
  if #set == BITMAP then
    return {struct.unpack('<I4I4I4I4I4I4I4I4', set)}
  end
  local numbers = {0, 0, 0, 0, 0, 0, 0, 0}
  for i = 1, #set do
    local offset = string.byte(set, i)
    local at = math.floor(offset / 32) + 1
    numbers[at] = bit.bor(numbers[at], bit.lshift(1, offset % 32))
  end
  return numbers
end

local function union(sets, first, last)
  local found = {0, 0, 0, 0, 0, 0, 0, 0}
  for i = first, last do
    if sets[i] then
      local numbers = numbers_of(sets[i])
      for at = 1, WORDS do found[at] = bit.bor(found[at], numbers[at]) end
    end
  end
  return found
end

-- The terms that are asked of each block: first those that all must be there, then the states.
local asked = {'a'}
for _, term in ipairs(A.terms) do asked[#asked + 1] = term end
local first_state = #asked + 1
if #A.statuses > 0 then
  for _, term in ipairs(any_open and ENDS or ended) do asked[#asked + 1] = term end
end

-- The tasks of a block that may fit, as eight numbers; nil for none.
local function candidates(block)
  local sets = redis.call('HMGET', found_key(block), unpack(asked))
  for i = 1, first_state - 1 do
    if not sets[i] then return nil end
  end
  local found = numbers_of(sets[1])
  for i = 2, first_state - 1 do
    local numbers = numbers_of(sets[i])
    for at = 1, WORDS do found[at] = bit.band(found[at], numbers[at]) end
  end
  if #A.statuses > 0 then
    local states
    if any_open then
      -- Open tasks have none of the ends; add the ends that are wanted.
      local over, also = union(sets, first_state, #asked), {}
      for i = first_state, #asked do
        if wanted[string.sub(asked[i], 2)] then also[#also + 1] = sets[i] or '' end
      end
      states = union(also, 1, #also)
      for at = 1, WORDS do states[at] = bit.bor(states[at], bit.bnot(over[at])) end
    else
      states = union(sets, first_state, #asked)
    end
    for at = 1, WORDS do found[at] = bit.band(found[at], states[at]) end
  end
  for at = 1, WORDS do
    if found[at] ~= 0 then return found end
  end
  return nil
end

-- A number that no task has: a list that goes on from there goes on from its newest task.
local BEHIND_ALL = '9007199254740991'
local tasks, read, last = {}, 0, ''
local function add(t)
  if A.brief then
    tasks[#tasks + 1] = {t.task_id, t.status, t.seq}
    return
  end
  local flat = reply(t, true)
  put(flat, 'waiting_for', waiting_for(t))
  put(flat, 'seq', t.seq)
  tasks[#tasks + 1] = flat
end

local function fits(t)
  return (#A.statuses == 0 or wanted[t.status]) and (not A.since or tonumber(t.created_at) >= A.since)
    and (not A.till or tonumber(t.created_at) < A.till)
end

local function look_at(id)
  if id == A.id then return end
  local t = load_task(id)
  if t and fits(t) then add(t) end
end

if A.id ~= '' and not A.before then
  local t, has = load_task(A.id), {}
  if t then
    for _, term in ipairs(terms_of(t.user_id, t.kind, t.batch_id)) do has[term] = true end
    local all = true
    for _, term in ipairs(A.own) do
      all = all and (has[term] or has_offset(redis.call('HGET', found_key(math.floor(t.seq / BLOCK)), term),
        t.seq % BLOCK))
    end
    if all and fits(t) then add(t) end
  end
end

-- The number of the first task that was made at a time or later: numbers are given out as time goes on.
local function number_at(at)
  local low, high = 0, redis.call('ZCARD', P .. 'tasks:')
  while low < high do
    local middle = math.floor((low + high) / 2)
    local made = read_made(redis.call('HGET', task_key(redis.call('ZRANGE', P .. 'tasks:', middle, middle)[1]), 'made'))
    if made and tonumber(made[AT.created_at]) < at then low = middle + 1 else high = middle end
  end
  local found = redis.call('ZRANGE', P .. 'tasks:', low, low, 'WITHSCORES')
  return tonumber(found[2]) or math.huge
end

local newest, oldest = A.before or math.huge, A.since and number_at(A.since) or 0
if A.till then newest = math.min(newest, number_at(A.till)) end
if oldest >= newest then return {tasks, ''} end

-- Look at the tasks with these numbers, the newest first; return whether there is room for no more.
local function look_at_all(pairs_of)
  for i = 1, #pairs_of, 2 do
    if #tasks >= A.most or read >= A.read then return true end
    last, read = pairs_of[i + 1], read + 1
    look_at(pairs_of[i])
  end
  return false
end

local function is_candidate(found, seq)
  local offset = seq % BLOCK
  return bit.band(found[math.floor(offset / 32) + 1], bit.lshift(1, offset % 32)) ~= 0
end

-- Where nothing but open tasks is wanted and these are few, they are looked at one by one.
local FEW = 2000
local function few_open()
  if #A.statuses == 0 or #ended > 0 or all_open then return nil end
  local keys, total = {}, 0
  for _, zset in ipairs({'processing', 'delayed'}) do
    if wanted[zset] then keys[#keys + 1] = P .. zset end
  end
  if wanted.queued then
    for _, line in ipairs(redis.call('HKEYS', P .. 'queued')) do keys[#keys + 1] = P .. 'waiting:' .. line end
  end
  for _, key in ipairs(keys) do total = total + redis.call('ZCARD', key) end
  if total > FEW then return nil end
  local found, known = {}, {}
  for _, key in ipairs(keys) do
    for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do
      local seq = tonumber(redis.call('ZSCORE', P .. 'tasks:', id) or '')
      if seq and seq < newest and seq >= oldest then
        local block = math.floor(seq / BLOCK)
        if known[block] == nil then known[block] = candidates(block) or false end
        if known[block] and is_candidate(known[block], seq) then found[#found + 1] = {id, seq} end
      end
    end
  end
  table.sort(found, function(one, other) return one[2] > other[2] end)
  return found
end

local few = few_open()
if few then
  local flat = {}
  for _, one in ipairs(few) do put(flat, one[1], whole(one[2])) end
  local more = look_at_all(flat)
  return {tasks, more and last or ''}
end

local function look_in(block)
  local found = candidates(block)
  if not found then return false end
  local from, to = math.max(block * BLOCK, oldest), math.min(block * BLOCK + BLOCK - 1, newest - 1)
  if from > to then return false end
  local members, flat = redis.call('ZREVRANGEBYSCORE', P .. 'tasks:', whole(to), whole(from), 'WITHSCORES'), {}
  for i = 1, #members, 2 do
    if is_candidate(found, tonumber(members[i + 1])) then put(flat, members[i], members[i + 1]) end
  end
  return look_at_all(flat)
end

-- The blocks of a shelf that have all terms, and one of the ended states where nothing else is wanted; as texts of bytes.
local by_end = #A.statuses > 0 and not any_open
local on_shelf = {}
for _, term in ipairs(A.terms) do on_shelf[#on_shelf + 1] = term end
if by_end then
  for _, term in ipairs(ended) do on_shelf[#on_shelf + 1] = term end
end
local function look_on(shelf)
  local sets = #on_shelf > 0 and redis.call('HMGET', shelf_key(shelf), unpack(on_shelf)) or {}
  for i = 1, #A.terms do
    if not sets[i] then return nil end
  end
  return sets
end

local function may_have(sets, block)
  local place, any = string.char(block % SHELF), not by_end
  for i = 1, #on_shelf do
    local has = sets[i] and string.find(sets[i], place, 1, true)
    if i <= #A.terms and not has then return false end
    if i > #A.terms and has then any = true end
  end
  return any
end

local top = newest == math.huge and '+inf' or whole(math.floor((newest - 1) / BLOCK))
local bottom, looked = whole(math.floor(oldest / BLOCK)), 0
while looked < A.blocks do
  local block = redis.call('ZREVRANGEBYSCORE', P .. 'found', top, bottom, 'LIMIT', 0, 1)[1]
  if not block then return {tasks, ''} end
  local shelf = math.floor(block / SHELF)
  local sets, lowest = look_on(shelf), shelf * SHELF
  looked = looked + 1
  local blocks = sets and redis.call('ZREVRANGEBYSCORE', P .. 'found', top, whole(lowest)) or {}
  for _, one in ipairs(blocks) do
    if may_have(sets, tonumber(one)) then
      looked = looked + 1
      if look_in(tonumber(one)) then return {tasks, last ~= '' and last or BEHIND_ALL} end
    end
    -- All of it was looked at.
    last = whole(one * BLOCK)
    if looked >= A.blocks then return {tasks, last} end
  end
  last, top = whole(lowest * BLOCK), '(' .. whole(lowest)
end
return {tasks, last}
