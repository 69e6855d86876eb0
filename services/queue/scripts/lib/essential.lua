-- Uses: base
--
-- For scripts that end or free things: they go through while Redis is full. Redis refuses a command
-- that may need memory only before the first write of a script, so this one, which changes nothing,
-- comes first.
redis.call('DEL', P .. 'nothing')
