-- Uses: base
--
-- The index that finds tasks among all: of each block of 256 numbers of submission a hash `found:{block}`, by a term the set of
-- the tasks that have it. Terms are "a" (each task of the block), and behind one letter a kind (k), a user (u), a batch
-- (b), a tag (t), a word of a label or an error (w), the state of what has ended (s).
--
-- `found` is the sorted set of the blocks. A set is text: up to 31 offsets in the block, each a byte; of more a bitmap of 32 bytes.
--
-- So that a block is passed over that has none, 64 blocks make a shelf: a hash `shelf:{number}` says by a term which of
-- them have it, each as a byte. It may name more.
--
-- The list `found_later` takes each change; some hundreds are sorted into the blocks together: by the script that notes
-- the last of these, by upkeep, or by a search before it looks (index_tasks.lua). Each change is a number of
-- submission, whether the task comes in or goes out, and terms; without terms the task is gone.
--
-- Invariant of all that is sorted in: a task that is in "a" is in each of its terms, and in the state that it has ended with, and in no other
-- state. One that is gone may be in some, until its block is made anew or goes with its last task.
local BLOCK, BITMAP, SHELF = 256, 32, 64
local function found_key(block) return P .. 'found:' .. whole(block) end

local function shelf_key(shelf) return P .. 'shelf:' .. whole(shelf) end

local function has_offset(set, offset)
  if not set then return false end
  if #set < BITMAP then return string.find(set, string.char(offset), 1, true) ~= nil end
  return bit.band(string.byte(set, math.floor(offset / 8) + 1), bit.lshift(1, offset % 8)) ~= 0
end

-- The terms that each task has beside those of its tags and words.
local function terms_of(user, kind, batch)
  return {'a', 'u' .. user, 'k' .. kind, batch ~= '' and 'b' .. batch or nil}
end

local note_task, note_terms, note_state, note_gone, sort_in
-- Whether few are sorted in at the end of the script too, up to some parts.
local sorts_few = false
do
  local SORTED_TOGETHER, MOST_PARTS, LATER = 512, 4, P .. 'found_later'
  local later = {}

  -- `user`, `kind`, `batch`: of a new task, whose other terms the `terms` are.
  local function note(seq, is_in, terms, user, kind, batch)
    later[#later + 1] = cmsgpack.pack(tonumber(seq), is_in, terms, user, kind, batch)
  end

  function note_terms(seq, terms)
    if #terms > 0 then note(seq, true, terms) end
  end

  -- Note the terms of a new task, and the `others` of its tags and words.
  function note_task(seq, user, kind, batch, others) note(seq, true, others, user, kind, batch) end

  function note_state(seq, state, is_in) note(seq, is_in, {'s' .. state}) end

  function note_gone(seq)
    if tonumber(seq) then note(seq, false, {}) end
  end

  local bor, band, bnot = bit.bor, bit.band, bit.bnot
  -- For each offset, its byte in a bitmap and its bit there; made when they are asked for.
  local byte_of, bit_of
  local function make_places()
    byte_of, bit_of = {}, {}
    for offset = 0, BLOCK - 1 do
      byte_of[offset], bit_of[offset] = math.floor(offset / 8) + 1, 2 ^ (offset % 8)
    end
  end

  local function in_bitmap(set, by_offset)
    local bytes = {string.byte(set, 1, BITMAP)}
    for offset, is_in in pairs(by_offset) do
      local place, mask = byte_of[offset], bit_of[offset]
      bytes[place] = is_in and bor(bytes[place], mask) or band(bytes[place], bnot(mask))
    end
    return string.char(unpack(bytes))
  end

  -- The set with some offsets in or out; nil where it stays empty.
  local function changed(set, by_offset)
    if set and #set == BITMAP then return in_bitmap(set, by_offset) end
    local has = {}
    for i = 1, set and #set or 0 do has[string.byte(set, i)] = true end
    for offset, is_in in pairs(by_offset) do has[offset] = is_in or nil end
    local offsets = {}
    for offset in pairs(has) do offsets[#offsets + 1] = offset end
    if #offsets < BITMAP then return (set or #offsets > 0) and string.char(unpack(offsets)) or nil end
    local bytes = {}
    for place = 1, BITMAP do bytes[place] = 0 end
    -- Each is there once.
    for _, offset in ipairs(offsets) do bytes[byte_of[offset]] = bytes[byte_of[offset]] + bit_of[offset] end
    return string.char(unpack(bytes))
  end

  -- Note on its shelf that a block has terms.
  local function shelve(block, terms)
    local key, place = shelf_key(math.floor(block / SHELF)), string.char(block % SHELF)
    local is_new = redis.call('EXISTS', key) == 0
    for first = 1, #terms, PART do
      local last = math.min(first + PART - 1, #terms)
      local sets, flat = redis.call('HMGET', key, unpack(terms, first, last)), {}
      for i = first, last do
        local set = sets[i - first + 1] or ''
        if not string.find(set, place, 1, true) then put(flat, terms[i], set .. place) end
      end
      if #flat > 0 then call_in_parts('HSET', key, flat) end
    end
    if is_new then make_hash_table(key) end
  end

  local function change(block, by_term)
    local key, terms, fresh, is_new = found_key(block), {}, {}, false
    for term in pairs(by_term) do terms[#terms + 1] = term end
    for first = 1, #terms, PART do
      local last = math.min(first + PART - 1, #terms)
      local sets, flat = redis.call('HMGET', key, unpack(terms, first, last)), {}
      for i = first, last do
        local old, term = sets[i - first + 1], terms[i]
        local set = changed(old, by_term[term])
        if set then put(flat, term, set) end
        if set and not old then
          fresh[#fresh + 1] = term
          is_new = is_new or term == 'a'
        end
      end
      if #flat > 0 then call_in_parts('HSET', key, flat) end
    end
    if is_new then
      redis.call('ZADD', P .. 'found', whole(block), whole(block))
      make_hash_table(key)
    end
    if #fresh > 0 then shelve(block, fresh) end
  end

  local function let_go(block)
    local first = block * BLOCK
    if redis.call('ZCOUNT', P .. 'tasks:', whole(first), whole(first + BLOCK - 1)) > 0 then return end
    redis.call('DEL', found_key(block))
    redis.call('ZREM', P .. 'found', whole(block))
    local shelf = math.floor(block / SHELF)
    if redis.call('ZCOUNT', P .. 'found', whole(shelf * SHELF), whole(shelf * SHELF + SHELF - 1)) == 0 then
      redis.call('DEL', shelf_key(shelf))
    end
  end

  -- Sort some of what was noted into the blocks. Return how many were noted after these.
  function sort_in()
    local noted, blocks, thinner = redis.call('LRANGE', LATER, 0, SORTED_TOGETHER - 1), {}, {}
    if #noted == 0 then return 0 end
    make_places()
    for i = 1, #noted do
      local seq, is_in, terms, user, kind, batch = cmsgpack.unpack(noted[i])
      local offset = seq % BLOCK
      local block = (seq - offset) / BLOCK
      local by_term = blocks[block]
      if not by_term then
        by_term = {}
        blocks[block] = by_term
      end
      if user then
        for _, term in ipairs(terms_of(user, kind, batch)) do terms[#terms + 1] = term end
      elseif #terms == 0 then
        thinner[block] = true
      end
      for at = 1, #terms do
        local by_offset = by_term[terms[at]]
        if by_offset then by_offset[offset] = is_in else by_term[terms[at]] = {[offset] = is_in} end
      end
    end
    redis.call('LTRIM', LATER, SORTED_TOGETHER, -1)
    for block, by_term in pairs(blocks) do change(block, by_term) end
    for block in pairs(thinner) do let_go(block) end
    return redis.call('LLEN', LATER)
  end

  finishers[#finishers + 1] = function()
    local waiting = 0
    for first = 1, #later, PART do
      waiting = redis.call('RPUSH', LATER, unpack(later, first, math.min(first + PART - 1, #later)))
    end
    if sorts_few then
      for _ = 1, MOST_PARTS do
        if sort_in() == 0 then return end
      end
    elseif waiting >= SORTED_TOGETHER then
      sort_in()
    end
  end
end
