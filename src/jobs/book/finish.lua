-- A try has ended. ARGV: time, id, fence, how (COMPLETED, FAILED, TIMED_OUT, CANCELLED, LOST, GIVEN_BACK), exit code or '', output or '', why or '', time of the next try.
-- Answers with the job's state. A worker that was thought dead and is not has an old fence, and changes nothing.
local id, how, why = ARGV[2], ARGV[4], ARGV[7]
local key = key_of(id)
local job = redis.call('HMGET', key, 'fence', 'state', 'attempt', 'startedAt', 'tries', 'cancelling')
if not job[1] then return no_job(id) end
if job[1] ~= ARGV[3] or job[2] ~= 'RUNNING' then
  redis.call('HINCRBY', base .. 'counts', 'stale', 1)
  return redis.error_reply('STALE this try of ' .. id .. ' was given up before it ended')
end
local try = {startedAt = tonumber(job[4]), completedAt = now, finalStatus = how, exitCode = tonumber(ARGV[5]), reason = why ~= '' and why or nil}
redis.call('HSET', key, 'try:' .. job[3], cjson.encode(try))
if ARGV[5] ~= '' then redis.call('HSET', key, 'exitCode', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', #ARGV[6] <= 4096 and key or data_of(id), 'output', ARGV[6]) end
if why ~= '' then redis.call('HSET', key, 'error', why) end
if how == 'COMPLETED' then
  redis.call('HDEL', key, 'error')
  settle(id, key, 'COMPLETED')
elseif how == 'LOST' then
  lost(id, key, why)
elseif how == 'GIVEN_BACK' then
  give_back(id, key, why)
elseif how == 'CANCELLED' or job[6] then
  settle(id, key, 'CANCELLED', why)
elseif redis.call('HINCRBY', key, 'spent', 1) >= tonumber(job[5]) then
  redis.call('ZADD', base .. 'dead', now, id)
  settle(id, key, how, why)
else
  dequeue(key)
  give_up_slot(id, key)
  redis.call('HSET', key, 'runAt', ARGV[8])
  redis.call('ZADD', base .. 'later', ARGV[8], id)
  enter(id, key, 'RETRY_WAIT', why)
end
return redis.call('HGET', key, 'state')
