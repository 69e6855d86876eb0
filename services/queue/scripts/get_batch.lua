-- Uses: batch
--
-- Read one batch.
--
-- id
-- Reply: {batch id, user id, status, snapshot, task ids}, or nil.
return batch_reply(A.id)
