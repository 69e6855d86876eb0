-- Read one batch.
--
-- ARGV[3] batch id
-- Reply: {user id, status, snapshot, task ids}, or nil.
local b = read_hash(batch_key(ARGV[3]))
if not b then return false end
return {b.user_id, b.status, batch_snapshot(b),
  redis.call('LRANGE', P .. 'batch_tasks:' .. ARGV[3], 0, -1)}
