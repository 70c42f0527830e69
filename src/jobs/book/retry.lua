-- Has a job that ended run again, as often as it was to be tried at first. ARGV: time, id. Answers with its state.
local id = ARGV[2]
local key = key_of(id)
local state = redis.call('HGET', key, 'state')
if not state then return no_job(id) end
if redis.call('ZREM', base .. 'ended', id) == 0 then
  return redis.error_reply('NOTENDED ' .. id .. ' has not ended: it is ' .. state)
end
redis.call('ZREM', base .. 'dead', id)
redis.call('HSET', key, 'spent', 0, 'losses', 0, 'runAt', now)
redis.call('HDEL', key, 'completedAt', 'exitCode', 'output', 'error')
redis.call('HDEL', data_of(id), 'output')
ready(id, key)
return redis.call('HGET', key, 'state')
