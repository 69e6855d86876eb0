-- Stands before every script of ours.
--
-- A key of ours that another program has written as another type is lost; it is deleted, so that the
-- script does not end in its middle, for all whom it serves.
local server, type, try = redis, type, redis.pcall
local redis = {pcall = try, call = function(...)
  local reply = try(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then
    local _, key = ...
    server.log(server.LOG_WARNING, 'deleted, as it is of another type: ' .. key)
    server.call('DEL', key)
  end
  return server.call(...)
end}
