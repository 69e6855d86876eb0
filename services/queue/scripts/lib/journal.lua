-- Uses: made
--
-- The journal of a task: the last rare events that neither its record nor its attempts tell.
--
-- Each is {code, when it was last, how often, who or what}. One that comes again behind itself is counted.
local journal
do
  local MOST_NOTED = 20
  function journal(t, code, what)
    local readable, list = pcall(cmsgpack.unpack, t.journal)
    if not (readable and type(list) == 'table') then list = {} end
    local last = list[#list]
    if type(last) == 'table' and last[1] == code and last[4] == what then
      last[2], last[3] = NOW_STAMP, (tonumber(last[3]) or 0) + 1
    else
      list[#list + 1] = {code, NOW_STAMP, 1, what}
      if #list > MOST_NOTED then table.remove(list, 1) end
    end
    set(t, 'journal', cmsgpack.pack(list))
  end
end
