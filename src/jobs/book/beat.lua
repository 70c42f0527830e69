-- A worker says that it still runs jobs. ARGV: time, worker, then id and fence of each. Answers with those that it is to end, and why.
local worker, to_end = ARGV[2], {}
for at = 3, #ARGV, 2 do
  local id, fence = ARGV[at], ARGV[at + 1]
  local job = redis.call('HMGET', key_of(id), 'fence', 'state', 'entry', 'queue', 'cancelling')
  if job[1] ~= fence or job[2] ~= 'RUNNING' then
    to_end[#to_end + 1] = {id, fence, 'STALE'}
  else
    redis.call('XCLAIM', base .. 'ready:' .. job[4], 'workers', worker, 0, job[3], 'JUSTID')
    if job[5] then to_end[#to_end + 1] = {id, fence, 'CANCEL'} end
  end
end
return to_end
