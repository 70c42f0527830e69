-- Gives a worker jobs to run, the highest priorities first. ARGV: time, worker, how many at most, then the runtimes it has.
-- Answers with id, fence, attempt, spec, script and payload of each.
local worker, left, claimed = ARGV[2], tonumber(ARGV[3]), {}
local has, queues = {}, {}
for at = 4, #ARGV do has[ARGV[at]] = true end
for _, name in ipairs(redis.call('SMEMBERS', base .. 'queues')) do
  local runtime, priority = string.match(name, '^(.*):(%d)$')
  if has[runtime] then queues[#queues + 1] = {name, tonumber(priority)} end
end
table.sort(queues, function(a, b) return a[2] > b[2] or a[2] == b[2] and a[1] < b[1] end)
for _, name in ipairs(queues) do
  local queue = base .. 'ready:' .. name[1]
  while left > 0 do
    local read = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', left, 'STREAMS', queue, '>')
    if not read then break end
    for _, entry in ipairs(read[1][2]) do
      local id = entry[2][2]
      local key = key_of(id)
      local job = redis.call('HMGET', key, 'entry', 'spec')
      if job[1] == entry[1] then
        local data = redis.call('HMGET', data_of(id), 'script', 'payload')
        local fence, attempt = redis.call('HINCRBY', key, 'fence', 1), redis.call('HINCRBY', key, 'attempt', 1)
        redis.call('HSET', key, 'worker', worker, 'startedAt', now)
        enter(id, key, 'RUNNING', worker)
        claimed[#claimed + 1] = {id, fence, attempt, job[2], data[1], data[2]}
        left = left - 1
      else
        redis.call('XACK', queue, 'workers', entry[1])
        redis.call('XDEL', queue, entry[1])
      end
    end
  end
end
return claimed
