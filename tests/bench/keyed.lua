-- wrk: every request is a POST with an idempotency key that nobody has used, so each is one that acts and is remembered.
local count = 0
local format = string.format
local run = os.time()

function request()
  count = count + 1
  return format(
    "POST %s HTTP/1.1\r\nHost: bench\r\nidempotency-key: order-%d-%d\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{\"item\": \"apple\"}",
    wrk.path, run, count
  )
end
