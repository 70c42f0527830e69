-- Forgets a job that ended, with what it wrote. ARGV: time, id.
local id = ARGV[2]
local key = key_of(id)
local job = redis.call('HMGET', key, 'state', 'attempt')
if not job[1] then return no_job(id) end
if redis.call('ZREM', base .. 'ended', id) == 0 then
  return redis.error_reply('NOTENDED ' .. id .. ' has not ended: cancel it first, it is ' .. job[1])
end
redis.call('ZREM', base .. 'dead', id)
redis.call('ZREM', base .. 'all', id)
redis.call('ZREM', base .. 'in:' .. job[1], id)
for attempt = 1, tonumber(job[2]) do redis.call('UNLINK', base .. 'log:' .. id .. ':' .. attempt) end
redis.call('UNLINK', key, data_of(id))
redis.call('XADD', base .. 'events', 'MAXLEN', '~', 10000, '*', 'job', id, 'state', 'DELETED', 'at', now)
return 1
