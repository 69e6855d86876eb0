-- Uses: batch
--
-- Read one batch.
--
-- ARGV[3] batch id
-- Reply: {batch id, user id, status, snapshot, task ids}, or nil.
return batch_reply(ARGV[3])
