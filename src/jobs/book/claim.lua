-- Gives a worker jobs to run, the highest priorities first. ARGV: time, worker, how many at most. Answers with id, fence, attempt, spec and script of each.
local worker, left, claimed = ARGV[2], tonumber(ARGV[3]), {}
local priorities = redis.call('SMEMBERS', base .. 'priorities')
table.sort(priorities, function(a, b) return tonumber(a) > tonumber(b) end)
for _, priority in ipairs(priorities) do
  local queue = base .. 'ready:' .. priority
  while left > 0 do
    local read = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', left, 'STREAMS', queue, '>')
    if not read then break end
    for _, entry in ipairs(read[1][2]) do
      local id = entry[2][2]
      local key = key_of(id)
      local job = redis.call('HMGET', key, 'entry', 'spec', 'script')
      if job[1] == entry[1] then
        local fence, attempt = redis.call('HINCRBY', key, 'fence', 1), redis.call('HINCRBY', key, 'attempt', 1)
        redis.call('HSET', key, 'worker', worker, 'startedAt', now)
        enter(id, key, 'RUNNING', worker)
        claimed[#claimed + 1] = {id, fence, attempt, job[2], job[3]}
        left = left - 1
      else
        redis.call('XACK', queue, 'workers', entry[1])
        redis.call('XDEL', queue, entry[1])
      end
    end
  end
end
return claimed
