-- Uses: base
--
-- A script that ends or frees something runs also when Redis is full. Redis refuses the first write of
-- a script that takes memory, and none after another one: this one takes none.
redis.call('DEL', P .. 'nothing')
