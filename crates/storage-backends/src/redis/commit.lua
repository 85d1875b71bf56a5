-- A commit to one shard: checks, budget and writes, all or nothing.
--
-- A script that fails half-way is not rolled back, so everything that can fail comes before the
-- first write: reads of every key, whose types are thereby checked, and the server's refusal of
-- the first command that writes (full memory, no replica, a disk that failed). After the first
-- write the server refuses nothing.
--
-- KEYS: store, last revision, components, snapshots, old values, index of old values; index and
-- counter of each component; the value of each check; the value of each write.
-- ARGV: store id, shard, number of components, of checks, and of writes, budget in bytes and in
-- keys or "" twice, command and channel of notices; for each component: prefix, number of its
-- writes, start and end of its notice; for each check: kind and expected bytes; for each write:
-- component, user key, "s" or "d", record.

local STORE, LAST, COMPONENTS, SNAPSHOTS, OLD, OLD_INDEX = unpack(KEYS, 1, 6)
local FIXED_KEYS, FIXED_ARGS = 6, 9
-- A stored value has 8 bytes of revision and 16 of the record around the guest's bytes.
local OVERHEAD = 24

-- A number below 2^53 as text; tostring has 14 digits.
local function decimal(number)
  return string.format('%.0f', number)
end

if redis.call('HGET', STORE, 'store_id') ~= ARGV[1] then
  return {'other store'}
end
local shard = tonumber(ARGV[2])
local component_count, check_count, write_count =
  tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local first_check = FIXED_KEYS + 2 * component_count
local first_write = first_check + check_count

-- Checks, in order.
local arg = FIXED_ARGS + 4 * component_count
for n = 1, check_count do
  local key, kind, expected = KEYS[first_check + n], ARGV[arg + 1], ARGV[arg + 2]
  local holds
  if kind == 'absent' then
    holds = redis.call('EXISTS', key) == 0
  elseif kind == 'present' then
    holds = redis.call('EXISTS', key) == 1
  elseif kind == 'revision' then
    holds = redis.call('GETRANGE', key, 0, 7) == expected
  else
    -- The record of a value is always the same.
    holds = redis.call('STRLEN', key) == 8 + #expected
      and redis.call('GETRANGE', key, 8, -1) == expected
  end
  if not holds then
    return {'check', tostring(n)}
  end
  arg = arg + 2
end

-- The state of the components and of the keys to write.
local components = {}
for n = 1, component_count do
  local index, counter = KEYS[FIXED_KEYS + 2 * n - 1], KEYS[FIXED_KEYS + 2 * n]
  local args = FIXED_ARGS + 4 * (n - 1)
  local found = redis.call('HMGET', counter, 'bytes', 'keys', 'revision')
  redis.call('ZCARD', index)
  components[n] = {
    index = index,
    counter = counter,
    prefix = ARGV[args + 1],
    is_written = ARGV[args + 2] ~= '0',
    notice_start = ARGV[args + 3],
    notice_end = ARGV[args + 4],
    bytes = tonumber(found[1]) or 0,
    keys = tonumber(found[2]) or 0,
    previous = found[3] or '',
    more_bytes = 0,
    more_keys = 0,
  }
end
redis.call('ZCARD', COMPONENTS)
local writes, has_set = {}, false
for n = 1, write_count do
  local key, user_key = KEYS[first_write + n], ARGV[arg + 2]
  local component, is_set = components[tonumber(ARGV[arg + 1])], ARGV[arg + 3] == 's'
  local length = redis.call('STRLEN', key)
  local exists = length > 0 or redis.call('EXISTS', key) == 1
  if exists then
    component.more_bytes = component.more_bytes - #user_key - math.max(length - OVERHEAD, 0)
    component.more_keys = component.more_keys - 1
  end
  if is_set then
    has_set = true
    component.more_bytes = component.more_bytes + #user_key + #ARGV[arg + 4] + 8 - OVERHEAD
    component.more_keys = component.more_keys + 1
  end
  writes[n] = {
    key = key,
    user_key = user_key,
    component = component,
    is_set = is_set,
    record = ARGV[arg + 4],
    exists = exists,
  }
  arg = arg + 4
end
if ARGV[6] ~= '' then
  local one = components[1]
  if one.more_bytes > 0 and one.bytes + one.more_bytes > tonumber(ARGV[6])
    or one.more_keys > 0 and one.keys + one.more_keys > tonumber(ARGV[7]) then
    return {'budget'}
  end
end

-- The revision: the number of the commit in this shard, and the shard in the lowest 8 bits.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local last = redis.call('GET', LAST)
local number = math.max((tonumber(last or 0) or 2^53) + 1, now)
-- A Lua number has 53 bits. Beyond them revisions would stop growing, and caches not notice.
if not (number < 2^53) then
  return {'last revision'}
end
local low = number % 1e9 * 256 + shard
local high = math.floor(number / 1e9) * 256 + math.floor(low / 1e9)
local revision = string.format('%.0f%09.0f', high, low % 1e9)
local stored_revision = struct.pack('>I8', number):sub(2) .. string.char(shard)

-- The latest snapshot that is being read needs the values that it could still see.
local has_snapshots, newest_snapshot = redis.call('ZCARD', SNAPSHOTS) > 0, nil
if has_snapshots then
  for _, snapshot in ipairs(redis.call('ZRANGEBYSCORE', SNAPSHOTS, decimal(now), '+inf')) do
    newest_snapshot = math.max(newest_snapshot or 0, tonumber(snapshot:match('^%d+')))
  end
  redis.call('HLEN', OLD)
  redis.call('ZCARD', OLD_INDEX)
end
local kept = {}
if newest_snapshot then
  for _, write in ipairs(writes) do
    local old = write.exists and redis.call('GET', write.key)
    if old then
      local written = #old < 8 and 0 or struct.unpack('>I8', '\0' .. old:sub(1, 7))
      if written <= newest_snapshot then
        local full_key = write.component.prefix .. write.user_key
        kept[#kept + 1] = full_key .. '\0' .. decimal(written) .. '\0' .. decimal(number)
        kept[#kept + 1] = old
      end
    end
  end
end

-- Writes. A full server refuses SET but not DEL, so a commit that only deletes begins with DEL.
if has_set or write_count == 0 then
  redis.call('SET', LAST, decimal(number))
end
for _, write in ipairs(writes) do
  if not write.is_set then
    redis.call('DEL', write.key)
    redis.call('ZREM', write.component.index, write.user_key)
  end
end
for _, write in ipairs(writes) do
  if write.is_set then
    redis.call('SET', write.key, stored_revision .. write.record)
    if not write.exists then
      redis.call('ZADD', write.component.index, 0, write.user_key)
    end
  end
end
if not has_set and write_count > 0 then
  redis.call('SET', LAST, decimal(number))
end
if has_snapshots then
  -- A reader that is late must notice that values it needs were not kept.
  redis.call('ZREMRANGEBYSCORE', SNAPSHOTS, '-inf', '(' .. decimal(now))
  if not newest_snapshot then
    redis.call('UNLINK', OLD, OLD_INDEX)
  end
end
for n = 1, #kept, 2 do
  redis.call('HSET', OLD, kept[n], kept[n + 1])
  redis.call('ZADD', OLD_INDEX, 0, kept[n])
end
local reply = {'written', revision}
for n, component in ipairs(components) do
  if component.is_written then
    local keys = math.max(component.keys + component.more_keys, 0)
    redis.call('HSET', component.counter,
      'bytes', decimal(math.max(component.bytes + component.more_bytes, 0)),
      'keys', decimal(keys),
      'revision', revision)
    if component.prefix ~= '' then
      if keys > 0 and component.keys <= 0 then
        redis.call('ZADD', COMPONENTS, 0, component.prefix)
      elseif keys == 0 then
        redis.call('ZREM', COMPONENTS, component.prefix)
      end
    end
    -- A lost notice costs time, and must not fail a commit that is written.
    redis.pcall(ARGV[8], ARGV[9],
      component.notice_start .. component.previous .. '\n' .. revision .. component.notice_end)
  end
  reply[n + 2] = component.previous
end
return reply
