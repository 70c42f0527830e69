-- What the scripts of the book share. KEYS[1] is what the names of the part's keys begin with: all of them have its hash tag. ARGV[1] is the time.
local base, now = KEYS[1], tonumber(ARGV[1])

local function key_of(id)
  return base .. 'job:' .. id
end

-- What of a job may be long lies aside.
local function data_of(id)
  return base .. 'data:' .. id
end

-- A job is in this state from now on, and those who follow are told.
local function enter(id, key, state, message)
  local job = redis.call('HMGET', key, 'state', 'createdAt', 'attempt')
  if job[1] then redis.call('ZREM', base .. 'in:' .. job[1], id) end
  redis.call('ZADD', base .. 'in:' .. state, job[2], id)
  local event = {status = state, timestamp = now, message = message}
  local told = 'history:' .. (job[3] or '0')
  local before = redis.call('HGET', key, told)
  redis.call('HSET', key, 'state', state, 'updatedAt', now, told, (before and before .. ',' or '') .. cjson.encode(event))
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', 10000, '*', 'job', id, 'state', state, 'at', now)
end

-- A job may run: a worker gets it, unless as many as may run of its key do already.
local function ready(id, key)
  local job = redis.call('HMGET', key, 'queue', 'slot', 'slots')
  local name, slot = job[1], job[2]
  if slot then
    local taken = base .. 'taken:' .. slot
    if redis.call('SISMEMBER', taken, id) == 0 then
      if redis.call('SCARD', taken) >= tonumber(job[3]) then
        -- Higher priorities first, then those who came first.
        redis.call('ZADD', base .. 'held:' .. slot, (9 - string.match(name, '%d$')) * 1e13 + now, id)
        return enter(id, key, 'HELD')
      end
      redis.call('SADD', taken, id)
    end
  end
  local queue = base .. 'ready:' .. name
  if redis.call('SADD', base .. 'queues', name) == 1 then
    redis.pcall('XGROUP', 'CREATE', queue, 'workers', '0', 'MKSTREAM')
  end
  redis.call('HSET', key, 'entry', redis.call('XADD', queue, '*', 'id', id))
  enter(id, key, 'READY')
  -- Each wakes one worker. Who was woken takes as many as it can.
  if redis.call('LLEN', base .. 'bell') < 64 then redis.call('RPUSH', base .. 'bell', 1) end
end

-- A job leaves the queue it is in, if it is in one.
local function dequeue(key)
  local job = redis.call('HMGET', key, 'queue', 'entry')
  if job[2] then
    local queue = base .. 'ready:' .. job[1]
    redis.call('XACK', queue, 'workers', job[2])
    redis.call('XDEL', queue, job[2])
    redis.call('HDEL', key, 'entry', 'worker')
  end
end

-- A job runs no more: the next of its key may.
local function give_up_slot(id, key)
  local slot = redis.call('HGET', key, 'slot')
  if not slot then return end
  redis.call('ZREM', base .. 'held:' .. slot, id)
  if redis.call('SREM', base .. 'taken:' .. slot, id) == 1 then
    local next = redis.call('ZPOPMIN', base .. 'held:' .. slot)
    if next[1] then ready(next[1], key_of(next[1])) end
  end
end

-- Nothing more happens to a job by itself.
local function settle(id, key, state, message)
  dequeue(key)
  give_up_slot(id, key)
  redis.call('ZREM', base .. 'later', id)
  redis.call('HDEL', key, 'cancelling')
  redis.call('HSET', key, 'completedAt', now)
  redis.call('ZADD', base .. 'ended', now, id)
  enter(id, key, state, message)
end

-- A running job waits again: its worker gives it back.
local function give_back(id, key, why)
  if redis.call('HGET', key, 'cancelling') then return settle(id, key, 'CANCELLED', why) end
  dequeue(key)
  ready(id, key)
end

-- The worker of a running job is gone, or could not run it. That is no failure of the job's, up to a bound: what kills every worker must end.
local function lost(id, key, why)
  if redis.call('HINCRBY', key, 'losses', 1) > 3 then
    redis.call('HSET', key, 'error', why)
    return settle(id, key, redis.call('HGET', key, 'cancelling') and 'CANCELLED' or 'FAILED', why)
  end
  give_back(id, key, why)
end

local function no_job(id)
  return redis.error_reply('NOJOB there is no job ' .. id)
end
