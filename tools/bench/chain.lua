-- wrk: one request to the featurizer, its answer to the predictor, over and over.
-- Arguments after `--`: the featurizer's port, body file, Content-Type, Accept, the predictor's Accept.
-- Run with as many threads as connections; the URL is the predictor's.
--
-- wrk talks to one address. A proxy in front of both containers would cost as much as the floor and blur every ratio,
-- so each thread asks the featurizer itself, over its own kept connection and with plain blocking calls (it has nothing
-- else to do: one connection a thread), and hands the answer to wrk as the next request. The time from one such call
-- to the next on one thread is the time of a whole chain. Prints one line of JSON.

local ffi = require("ffi")
ffi.cdef [[
  struct in_address { uint16_t family; uint16_t port; uint32_t address; char zero[8]; };
  struct moment { long seconds; long nanoseconds; };
  struct period { long seconds; long microseconds; };
  int socket(int domain, int type, int protocol);
  int connect(int fd, const void *address, unsigned length);
  int setsockopt(int fd, int level, int option, const void *value, unsigned length);
  long send(int fd, const char *data, size_t length, int flags);
  long recv(int fd, char *data, size_t length, int flags);
  int close(int fd);
  int clock_gettime(int clock, struct moment *now);
  uint16_t htons(uint16_t number);
  uint32_t htonl(uint32_t number);
]]
local SIZE = 262144
local buffer, moment = ffi.new("char[?]", SIZE), ffi.new("struct moment")
local port, message, fd, begun
refused, took = 0, {} -- read by done()

local function now()
  ffi.C.clock_gettime(1, moment)
  return tonumber(moment.seconds) + tonumber(moment.nanoseconds) * 1e-9
end

local function open()
  local address = ffi.new("struct in_address", {2, ffi.C.htons(port), ffi.C.htonl(0x7f000001)})
  local on, patience = ffi.new("int[1]", 1), ffi.new("struct period", {60, 0})
  fd = ffi.C.socket(2, 1, 0)
  ffi.C.setsockopt(fd, 6, 1, on, 4) -- TCP_NODELAY
  ffi.C.setsockopt(fd, 1, 20, patience, ffi.sizeof(patience)) -- SO_RCVTIMEO
  return ffi.C.connect(fd, address, ffi.sizeof(address)) == 0
end

local function shut()
  if fd then ffi.C.close(fd) end
  fd = nil
end

local function send_all(text)
  local sent, start = 0, ffi.cast("const char *", text)
  while sent < #text do
    local count = tonumber(ffi.C.send(fd, start + sent, #text - sent, 0x4000)) -- MSG_NOSIGNAL
    if count <= 0 then return false end
    sent = sent + count
  end
  return true
end

local function receive()
  local text, head, length = "", nil, nil
  local parts, got = {}, 0
  while not length or got < length do
    local count = tonumber(ffi.C.recv(fd, buffer, SIZE, 0))
    if count <= 0 then return nil end
    local part = ffi.string(buffer, count)
    if length then
      parts[#parts + 1], got = part, got + count
    else
      text = text .. part
      local _, stop = text:find("\r\n\r\n", 1, true)
      if stop then
        head = text:sub(1, stop):lower()
        length = tonumber(head:match("\r\ncontent%-length: *(%d+)"))
        if not length then return nil end
        parts, got = {text:sub(stop + 1)}, #text - stop
      end
    end
  end
  if head:find("\r\nconnection: close", 1, true) then shut() end
  -- The media type as it was sent: its parameters may be case-sensitive.
  return tonumber(head:match("^http/1%.1 (%d+)")), text:match("\r\n[Cc]ontent%-[Tt]ype: *([^\r]*)"), table.concat(parts)
end

local function exchange()
  if not fd and not open() then return nil end
  if not send_all(message) then return nil end
  return receive()
end

function init(args)
  local file = assert(io.open(args[2], "rb"))
  local body = file:read("*a")
  file:close()
  port = tonumber(args[1])
  message = "POST /invocations HTTP/1.1\r\nHost: 127.0.0.1:" .. args[1] .. "\r\nContent-Type: " .. args[3]
    .. "\r\nAccept: " .. args[4] .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  wrk.method = "POST"
  wrk.headers["Accept"] = args[5]
end

function request()
  local before = begun
  begun = now()
  if before then took[#took + 1] = begun - before end
  local status, media, body = exchange()
  if not status then -- a server may close a kept connection at any time: once more on a new one
    shut()
    status, media, body = exchange()
  end
  if status ~= 200 then
    refused = refused + 1
    shut()
  end
  wrk.headers["Content-Type"] = media or "none"
  return wrk.format(nil, nil, nil, body or "")
end

local threads = {}
function setup(thread)
  threads[#threads + 1] = thread
end

function done(summary, _, _)
  local all, per_second, errors = {}, 0, summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.timeout + errors.status
  for _, thread in ipairs(threads) do
    local times, sum = thread:get("took"), 0
    -- wrk tries the script once before it starts: the first time is no chain's
    for position = 2, #times do
      all[#all + 1], sum = times[position], sum + times[position]
    end
    if sum > 0 then per_second = per_second + (#times - 1) / sum end
    failed = failed + thread:get("refused")
  end
  table.sort(all)
  local function percentile(share)
    return all[math.max(1, math.ceil(#all * share))] or 0
  end
  print(string.format(
    '{"requests": %d, "per_second": %f, "p50": %f, "p99": %f, "errors": %d}',
    #all, per_second, percentile(0.5), percentile(0.99), failed
  ))
end
