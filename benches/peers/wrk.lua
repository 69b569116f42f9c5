-- The two requests of a command, in turns.
local start = wrk.format(
  "POST", "/w0/api/bash/start_bash_command", { ["content-type"] = "application/json" },
  '{"command":"true","cwd":null,"timeout":31}'
)
local search = wrk.format("GET", "/w0/api/bash/bash_events/search?kind__eq=BashOutput&limit=1")
local starts = false

request = function()
  starts = not starts
  return starts and start or search
end
