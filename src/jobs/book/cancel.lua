-- Ends a job. ARGV: time, id, why. Answers with its state: a running one is RUNNING until its worker has killed it.
local id = ARGV[2]
local key = key_of(id)
local state = redis.call('HGET', key, 'state')
if not state then return no_job(id) end
if state == 'RUNNING' then
  redis.call('HSET', key, 'cancelling', 1)
  redis.call('PUBLISH', base .. 'cancel', id)
elseif not redis.call('ZSCORE', base .. 'ended', id) then
  settle(id, key, 'CANCELLED', ARGV[3])
end
return redis.call('HGET', key, 'state')
