-- Uses: found
--
-- Sort a part of what is noted of tasks into the index that finds them (lib/found.lua).
--
-- Reply: how many changes wait for a next part.
return sort_in()
