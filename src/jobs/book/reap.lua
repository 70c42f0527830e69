-- Takes jobs from workers of which nothing was heard for so long. ARGV: time, milliseconds, how many of each queue at most. Answers with their ids.
local reaped = {}
for _, name in ipairs(redis.call('SMEMBERS', base .. 'queues')) do
  local queue = base .. 'ready:' .. name
  local idle = redis.call('XAUTOCLAIM', queue, 'workers', 'nobody', ARGV[2], '0', 'COUNT', ARGV[3])
  for _, entry in ipairs(idle[2]) do
    local id = entry[2][2]
    local key = key_of(id)
    local job = redis.call('HMGET', key, 'entry', 'state', 'attempt', 'startedAt')
    if job[1] == entry[1] and job[2] == 'RUNNING' then
      local why = 'nothing was heard of its worker'
      local try = {startedAt = tonumber(job[4]), completedAt = now, finalStatus = 'LOST', reason = why}
      redis.call('HSET', key, 'try:' .. job[3], cjson.encode(try))
      lost(id, key, why)
      reaped[#reaped + 1] = id
    else
      redis.call('XACK', queue, 'workers', entry[1])
      redis.call('XDEL', queue, entry[1])
    end
  end
end
return reaped
