-- Uses: base
--
-- A wake names its queue: another one's workers, of the same process perhaps, have nothing to look for.
local WAKE = '{"type":"wake","data":{"queue":"' .. P .. '"'

-- Once a script is enough, however many tasks came into the line.
local woken = false
local function wake_workers()
  if woken then return end
  woken = true
  redis.call('PUBLISH', 'rt:workers', WAKE .. '}}')
end

-- Let waiting workers know that something falls due, so that none of them has to look for it.
local function announce_due(time)
  redis.call('PUBLISH', 'rt:workers',
    WAKE .. ',"due_in":' .. string.format('%.3f', math.max(time - NOW, 0)) .. '}}')
end
