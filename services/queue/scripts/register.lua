-- Uses: always, limits
--
-- Make limits and kinds known.
--
-- limits: over all kinds (user_limit, global_limit, order); overwrite: also where some are known
-- kinds: {kind, version, entry (JSON), limits} of each; of several versions the latest stays
-- plans: texts by digest, which stay
-- Reply: 1.
if A.overwrite or not unpack_limits(redis.call('HGET', P .. 'own_limits', '')) then
  redis.call('HSET', P .. 'own_limits', '', cmsgpack.pack(A.limits))
end
apply('')
for _, kind in ipairs(A.kinds) do
  local known = tonumber(redis.call('HGET', P .. 'kind_versions', kind.kind) or '')
  if not known or known <= kind.version then
    redis.call('HSET', P .. 'kind_versions', kind.kind, string.format('%d', kind.version))
    redis.call('HSET', P .. 'kinds', kind.kind, kind.entry)
    redis.call('HSET', P .. 'own_limits', kind.kind, cmsgpack.pack(kind.limits))
    apply(kind.kind)
  end
end
for digest, text in pairs(A.plans) do
  redis.call('HSET', P .. 'plans', digest, text)
  redis.call('SADD', P .. 'pinned_plans', digest)
end
return 1
