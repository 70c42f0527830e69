-- Takes a job. ARGV: time, id, spec, script, payload, time to run, queue (runtime:priority), tries, key of concurrency or '', its limit, idempotency key or '',
-- digest of what was sent. Answers with the id, and 1 if it is a new job.
local id, run_at, idempotency = ARGV[2], tonumber(ARGV[6]), ARGV[11]
if idempotency ~= '' then
  local known = redis.call('HMGET', base .. 'once:' .. idempotency, 'id', 'digest')
  if known[1] then
    if known[2] == ARGV[12] then return {known[1], 0} end
    return redis.error_reply('DIFFERS another job was submitted with this idempotency key: ' .. known[1])
  end
  redis.call('HSET', base .. 'once:' .. idempotency, 'id', id, 'digest', ARGV[12])
  redis.call('PEXPIRE', base .. 'once:' .. idempotency, 86400000)
end
local key = key_of(id)
redis.call('HSET', data_of(id), 'script', ARGV[4], 'payload', ARGV[5])
redis.call('HSET', key, 'spec', ARGV[3], 'runAt', run_at, 'queue', ARGV[7], 'tries', ARGV[8], 'createdAt', now, 'attempt', 0, 'spent', 0, 'fence', 0)
if ARGV[9] ~= '' then redis.call('HSET', key, 'slot', ARGV[9], 'slots', ARGV[10]) end
redis.call('ZADD', base .. 'all', now, id)
if run_at > now then
  redis.call('ZADD', base .. 'later', run_at, id)
  enter(id, key, 'SCHEDULED')
else
  ready(id, key)
end
return {id, 1}
