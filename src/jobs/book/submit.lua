-- Takes a job. ARGV: time, id, spec, script, time to run, priority, tries, key of concurrency or '', its limit, idempotency key or '', digest of what was sent.
-- Answers with the id, and 1 if it is a new job.
local id, run_at, idempotency = ARGV[2], tonumber(ARGV[5]), ARGV[10]
if idempotency ~= '' then
  local known = redis.call('HMGET', base .. 'once:' .. idempotency, 'id', 'digest')
  if known[1] then
    if known[2] == ARGV[11] then return {known[1], 0} end
    return redis.error_reply('DIFFERS another job was submitted with this idempotency key: ' .. known[1])
  end
  redis.call('HSET', base .. 'once:' .. idempotency, 'id', id, 'digest', ARGV[11])
  redis.call('PEXPIRE', base .. 'once:' .. idempotency, 86400000)
end
local key = key_of(id)
redis.call('HSET', key, 'spec', ARGV[3], 'script', ARGV[4], 'runAt', run_at, 'priority', ARGV[6], 'tries', ARGV[7],
  'createdAt', now, 'attempt', 0, 'spent', 0, 'fence', 0)
if ARGV[8] ~= '' then redis.call('HSET', key, 'slot', ARGV[8], 'slots', ARGV[9]) end
redis.call('ZADD', base .. 'all', now, id)
if run_at > now then
  redis.call('ZADD', base .. 'later', run_at, id)
  enter(id, key, 'SCHEDULED')
else
  ready(id, key)
end
return {id, 1}
