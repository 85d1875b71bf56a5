-- Reads the marker of a shard, creates it if it is missing, and tries the commands of commits.
--
-- A command that the user may not run would end a commit half-way, so a shard is not opened for
-- writing without them. DEL comes first, because a full server refuses the others unless the
-- script has already written.
--
-- KEYS: store, last revision, components, a key to try commands on.
-- ARGV: store id, format, number of shards, "create" or "", "complete" or "".

local STORE, LAST, COMPONENTS, TRIED = unpack(KEYS)
local STORE_ID, format, shards, create, complete = unpack(ARGV)

redis.call('DEL', TRIED)
redis.call('SET', TRIED, '')
redis.call('UNLINK', TRIED)
redis.call('HSET', TRIED, 'a', '')
redis.call('DEL', TRIED)
redis.call('ZADD', TRIED, 0, 'a')
redis.call('ZREM', TRIED, 'a')
redis.call('ZREMRANGEBYSCORE', TRIED, 0, 0)

if create ~= '' and redis.call('EXISTS', STORE) == 0 then
  if redis.call('EXISTS', LAST, COMPONENTS) ~= 0 then
    return {'other keys'}
  end
  redis.call('HSET', STORE, 'format', format, 'store_id', STORE_ID, 'shards', shards)
end
local fields = redis.call('HMGET', STORE, 'format', 'store_id', 'shards', 'complete')
if complete ~= '' and fields[2] == STORE_ID then
  redis.call('HSET', STORE, 'complete', '1')
end
return {'found', fields[1] or '', fields[2] or '', fields[3] or '', fields[4] or ''}
