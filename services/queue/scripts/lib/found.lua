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
-- Invariant: a task that is in "a" is in each of its terms, and in the state that it has ended with, and in no other
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

local note_terms, note_state, note_gone
do
  local function with_bit(set, offset, is_in)
    local place, mask = math.floor(offset / 8) + 1, bit.lshift(1, offset % 8)
    local old = string.byte(set, place)
    local new = is_in and bit.bor(old, mask) or bit.band(old, bit.bnot(mask))
    return string.sub(set, 1, place - 1) .. string.char(new) .. string.sub(set, place + 1)
  end

  local function with_offset(set, offset)
    if has_offset(set, offset) then return set end
    if #set < BITMAP - 1 then return set .. string.char(offset) end
    if #set < BITMAP then
      local bits = string.rep('\0', BITMAP)
      for i = 1, #set do bits = with_bit(bits, string.byte(set, i), true) end
      set = bits
    end
    return with_bit(set, offset, true)
  end

  local function without_offset(set, offset)
    if not has_offset(set, offset) then return set end
    if #set == BITMAP then return with_bit(set, offset, false) end
    local at = string.find(set, string.char(offset), 1, true)
    return string.sub(set, 1, at - 1) .. string.sub(set, at + 1)
  end

  -- By block and term the offsets that come in, or go out; and the blocks that lose tasks.
  local more, less, thinner = {}, {}, {}
  local function note_in(blocks, seq, term)
    local block = math.floor(seq / BLOCK)
    local terms = blocks[block]
    if not terms then
      terms = {}
      blocks[block] = terms
    end
    local offsets = terms[term]
    if offsets then offsets[#offsets + 1] = seq % BLOCK else terms[term] = {seq % BLOCK} end
  end

  function note_terms(seq, terms)
    for _, term in ipairs(terms) do note_in(more, seq, term) end
  end

  function note_state(seq, state, is_in)
    note_in(is_in and more or less, seq, 's' .. state)
  end

  function note_gone(seq)
    if tonumber(seq) then thinner[math.floor(seq / BLOCK)] = true end
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

  local function change(block, by_term, change_set)
    local key, terms, fresh, is_new = found_key(block), {}, {}, false
    for term in pairs(by_term) do terms[#terms + 1] = term end
    for first = 1, #terms, PART do
      local last = math.min(first + PART - 1, #terms)
      local sets, flat = redis.call('HMGET', key, unpack(terms, first, last)), {}
      for i = first, last do
        local set = sets[i - first + 1]
        if not set then
          set = ''
          fresh[#fresh + 1] = terms[i]
          if terms[i] == 'a' then
            redis.call('ZADD', P .. 'found', whole(block), whole(block))
            is_new = true
          end
        end
        for _, offset in ipairs(by_term[terms[i]]) do set = change_set(set, offset) end
        put(flat, terms[i], set)
      end
      if #flat > 0 then call_in_parts('HSET', key, flat) end
    end
    if is_new then make_hash_table(key) end
    if #fresh > 0 then shelve(block, fresh) end
  end

  finishers[#finishers + 1] = function()
    for block, by_term in pairs(less) do change(block, by_term, without_offset) end
    for block, by_term in pairs(more) do change(block, by_term, with_offset) end
    for block in pairs(thinner) do
      local first, comes = block * BLOCK, more[block] and more[block].a
      if not comes and redis.call('ZCOUNT', P .. 'tasks:', whole(first), whole(first + BLOCK - 1)) == 0 then
        redis.call('DEL', found_key(block))
        redis.call('ZREM', P .. 'found', whole(block))
        local shelf = math.floor(block / SHELF)
        if redis.call('ZCOUNT', P .. 'found', whole(shelf * SHELF), whole(shelf * SHELF + SHELF - 1)) == 0 then
          redis.call('DEL', shelf_key(shelf))
        end
      end
    end
  end
end
