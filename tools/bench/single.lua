-- wrk: one and the same request, over and over. Arguments after `--`: body file, Content-Type, Accept.
-- Prints what wrk has measured as one line of JSON.

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = args[2]
  wrk.headers["Accept"] = args[3]
end

function done(summary, latency, _)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "per_second": %f, "p50": %f, "p99": %f, "errors": %d}',
    summary.requests,
    summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status
  ))
end
