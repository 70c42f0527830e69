-- Has jobs wait for a worker whose time has come. ARGV: time, how many at most. Answers with how many there were, and the time of the next one, if there is one.
local due = redis.call('ZRANGEBYSCORE', base .. 'later', '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(due) do
  redis.call('ZREM', base .. 'later', id)
  ready(id, key_of(id))
end
local next = redis.call('ZRANGE', base .. 'later', 0, 0, 'WITHSCORES')
return {#due, next[2] or false}
