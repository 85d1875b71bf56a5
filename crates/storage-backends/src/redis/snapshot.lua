-- Begins, continues or ends the reading of a snapshot of one shard.
--
-- While a snapshot is read, commits keep the values that it could still see. They do so until
-- the time at which it ends, which the reader puts off again and again.
--
-- KEYS: store, last revision, snapshots, old values, index of old values; to begin, possibly the
-- counter of a component.
-- ARGV: store id, "begin", "continue" or "end", microseconds until it ends, name.

local STORE, LAST, SNAPSHOTS, OLD, OLD_INDEX, COUNTER = unpack(KEYS)
local STORE_ID, step, duration, name = unpack(ARGV)
if redis.call('HGET', STORE, 'store_id') ~= STORE_ID then
  return {'other store'}
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local ending = string.format('%.0f', now + tonumber(duration))

-- This comes first because a full server refuses ZADD unless the script has already written.
redis.call('ZREMRANGEBYSCORE', SNAPSHOTS, '-inf', '(' .. string.format('%.0f', now))
if step == 'begin' then
  if redis.call('ZCARD', SNAPSHOTS) == 0 then
    redis.call('UNLINK', OLD, OLD_INDEX)
  end
  local last = tonumber(redis.call('GET', LAST)) or 0
  name = string.format('%.0f', last) .. ':' .. name
  redis.call('ZADD', SNAPSHOTS, ending, name)
  local counter = COUNTER and redis.call('HMGET', COUNTER, 'bytes', 'keys', 'revision') or {}
  return {'begun', name, counter[1] or '', counter[2] or '', counter[3] or ''}
end
local is_there = redis.call('ZSCORE', SNAPSHOTS, name)
if step == 'end' then
  redis.call('ZREM', SNAPSHOTS, name)
  if redis.call('ZCARD', SNAPSHOTS) == 0 then
    redis.call('UNLINK', OLD, OLD_INDEX)
  end
elseif is_there then
  redis.call('ZADD', SNAPSHOTS, ending, name)
end
return {is_there and 'there' or 'gone'}
