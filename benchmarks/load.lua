-- Requests in turn, from the file REQUESTS that `load.py` wrote: a line with the lengths of head and
-- body and whether the request gets an X-Request-ID, then both. Prints its summary as JSON.
local requests, ids, count, sent = {}, {}, 0, 0

local file = assert(io.open(os.getenv("REQUESTS"), "rb"))
for line in file:lines() do
  local head, body, numbered = line:match("(%d+) (%d+) (%d)")
  count = count + 1
  ids[count] = numbered == "1" and file:read(tonumber(head)) or false
  requests[count] = (ids[count] and "" or file:read(tonumber(head))) .. file:read(tonumber(body))
end
file:close()

function request()
  local number = sent % count + 1
  sent = sent + 1
  local head = ids[number]
  if not head then
    return requests[number]
  end
  local id = string.format("X-Request-ID: 6f9619ff-8b86-4d01-b42d-%012x\r\n\r\n", sent)
  return head .. id .. requests[number]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "errors": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
