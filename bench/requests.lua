-- What wrk sends, all rows alike: number 1 to COUNT in turn, in 40 digits in
-- the place of "%" in the header, if there is one.
--
--     wrk ... URL -- COUNT PATHS [HEADER [RANDOM]]
--
-- With PATHS more than 0, /0 to /PATHS-1 in turn are asked for; with RANDOM
-- the numbers are random ones.

local count, paths, before, after, random
local number, one = 0, nil

local function bytes(n)
   local path = paths > 0 and "/" .. n % paths or wrk.path
   local header = before or ""

   if after then
      header = header .. string.format("%040d", n) .. after
   end

   if header ~= "" then
      header = header .. "\r\n"
   end

   return "GET " .. path .. " HTTP/1.1\r\nHost: localhost\r\n" .. header
      .. "\r\n"
end

function init(args)
   count, paths = tonumber(args[1]), tonumber(args[2])

   random = args[4]

   if args[3] then
      before, after = args[3]:match("^(.-)%%(.*)$")
      before = before or args[3]
   end

   if count == 1 and paths == 0 then
      one = bytes(1)
   end
end

function request()
   if one then
      return one
   end

   number = random and math.random(count) or number % count + 1

   return bytes(number)
end

-- requests, answers of 400 and more, connections that failed
function done(summary)
   local errors = summary.errors

   print(string.format("answers %d %d %d", summary.requests, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout))
end
