-- wrk: every request carries a trace context and a correlation id of its own, as calls between instrumented services do.
-- A proxy that remembers whole heads has nothing to remember here.
local count = 0
local format = string.format

function request()
  count = count + 1
  return format(
    "GET %s HTTP/1.1\r\nHost: bench\r\ntraceparent: 00-%032x-%016x-01\r\nx-correlation-id: 0190c2d4-7a3e-7bb1-9a2c-%012x\r\n\r\n",
    wrk.path, count, count, count
  )
end
