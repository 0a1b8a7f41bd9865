-- Requests of TENANTS tenants in turn, each with a trace of its own: wrk -s tenants.lua URL -- TENANTS
local number, tenants = 0, 1

function init(arguments)
  tenants = tonumber(arguments[1])
end

function request()
  number = number + 1
  local trace = string.format("00-%032x-%016x-01", number, number)
  return wrk.format("GET", nil, { ["x-tenant-id"] = "tenant-" .. (number % tenants), traceparent = trace })
end
