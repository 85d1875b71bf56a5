-- Commits to one shard, one after the other, each with checks, budget and writes, all or nothing.
--
-- A script that fails half-way is not rolled back, so everything in a commit that can fail comes
-- before its first write: reads of every key, whose types are thereby checked, and the server's
-- refusal of the first command that writes (full memory, no replica, a disk that failed). After
-- the first write of the script the server refuses nothing. A commit that fails does not
-- affect those after it. What commits have in common is read once, before them, and written once.
--
-- KEYS: store, last revision, components, snapshots, old values, index of old values; for each
-- commit: index and counter of each component; the value of each check; the value of each write.
-- ARGV: store id, shard, command, channel and start of notices, number of commits; for each
-- commit: number of components, of checks, and of writes, budget in bytes and in keys or ""
-- twice; for each of its components: prefix, number of its writes, end of its notice; for each
-- check: kind and expected bytes; for each write: component, user key, "s" or "d", record.
--
-- Replies to each commit. Commits that only delete must be last: after a write of one, a full
-- server would not refuse one that sets a key.

local call, KEYS, ARGV = redis.call, KEYS, ARGV
local STORE, LAST, COMPONENTS, SNAPSHOTS, OLD, OLD_INDEX = unpack(KEYS, 1, 6)
local SHARD, PUBLISH, CHANNEL, NOTICE_START = tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
-- A stored value has 8 bytes of revision and 16 of the record around the guest's bytes.
local OVERHEAD = 24

-- Where the keys and the arguments of the next commit begin.
local next_key, next_arg = 7, 7
-- The number of the last commit, and the one that this script has given to the server.
local number, stored_number
local has_written = false
local now, has_snapshots, newest_snapshot
-- By the key of the counter. As after the commits so far.
local components = {}

-- A number below 2^53 as text; tostring has 14 digits.
local function decimal(number)
  return string.format('%.0f', number)
end

-- Reads what the commits have in common.
local function prepare()
  local time = call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local last = call('GET', LAST)
  -- So that the next one is the time, or more.
  number = math.max(tonumber(last or 0) or 2^53, now - 1)
  call('ZCARD', COMPONENTS)
  -- The latest snapshot that is being read needs the values that it could still see.
  has_snapshots = call('ZCARD', SNAPSHOTS) > 0
  if has_snapshots then
    for _, snapshot in ipairs(call('ZRANGEBYSCORE', SNAPSHOTS, decimal(now), '+inf')) do
      newest_snapshot = math.max(newest_snapshot or 0, tonumber(snapshot:match('^%d+')))
    end
    call('HLEN', OLD)
    call('ZCARD', OLD_INDEX)
  end
end

local function component_of(index, counter, prefix)
  local component = components[counter]
  if not component then
    local found = call('HMGET', counter, 'bytes', 'keys', 'revision')
    call('ZCARD', index)
    component = {
      index = index,
      prefix = prefix,
      bytes = tonumber(found[1]) or 0,
      keys = tonumber(found[2]) or 0,
      revision = found[3] or '',
    }
    component.is_listed = component.keys > 0
    components[counter] = component
  end
  return component
end

local function holds(key, kind, expected)
  if kind == 'absent' then
    return call('EXISTS', key) == 0
  elseif kind == 'present' then
    return call('EXISTS', key) == 1
  elseif kind == 'revision' then
    return call('GETRANGE', key, 0, 7) == expected
  end
  -- The record of a value is always the same.
  return call('STRLEN', key) == 8 + #expected and call('GETRANGE', key, 8, -1) == expected
end

-- Keeps a value that is about to be replaced, if the latest snapshot can see it.
local function keep(full_key, old)
  local written = #old < 8 and 0 or struct.unpack('>I8', '\0' .. old:sub(1, 7))
  if written <= newest_snapshot then
    local name = full_key .. '\0' .. decimal(written) .. '\0' .. decimal(number)
    call('HSET', OLD, name, old)
    call('ZADD', OLD_INDEX, 0, name)
  end
end

-- Makes the next commit. Returns the reply.
local function commit()
  local component_count, check_count, write_count =
    tonumber(ARGV[next_arg]), tonumber(ARGV[next_arg + 1]), tonumber(ARGV[next_arg + 2])
  local max_bytes, max_keys = tonumber(ARGV[next_arg + 3]), tonumber(ARGV[next_arg + 4])
  local component_key, component_arg = next_key, next_arg + 5
  local check_key, check_arg = component_key + 2 * component_count, component_arg + 3 * component_count
  local write_key, write_arg = check_key + check_count, check_arg + 2 * check_count
  -- Before anything can fail.
  next_key, next_arg = write_key + write_count, write_arg + 4 * write_count

  for n = 0, check_count - 1 do
    if not holds(KEYS[check_key + n], ARGV[check_arg + 2 * n], ARGV[check_arg + 2 * n + 1]) then
      return {'check', tostring(n + 1)}
    end
  end

  -- The components and the keys to write, and what is added to the usage.
  local own, more_bytes, more_keys = {}, {}, {}
  for n = 1, component_count do
    local key = component_key + 2 * n - 2
    own[n] = component_of(KEYS[key], KEYS[key + 1], ARGV[component_arg + 3 * n - 3])
    more_bytes[n], more_keys[n] = 0, 0
  end
  local exists, old_values, has_set = {}, {}, false
  for n = 0, write_count - 1 do
    local key, arg = KEYS[write_key + n], write_arg + 4 * n
    local at, user_key = tonumber(ARGV[arg]), ARGV[arg + 1]
    local length = call('STRLEN', key)
    exists[n] = length > 0 or call('EXISTS', key) == 1
    if exists[n] then
      more_bytes[at] = more_bytes[at] - #user_key - math.max(length - OVERHEAD, 0)
      more_keys[at] = more_keys[at] - 1
      old_values[n] = newest_snapshot and call('GET', key)
    end
    if ARGV[arg + 2] == 's' then
      has_set = true
      more_bytes[at] = more_bytes[at] + #user_key + #ARGV[arg + 3] + 8 - OVERHEAD
      more_keys[at] = more_keys[at] + 1
    end
  end
  if max_bytes
    and (more_bytes[1] > 0 and own[1].bytes + more_bytes[1] > max_bytes
      or more_keys[1] > 0 and own[1].keys + more_keys[1] > max_keys) then
    return {'budget'}
  end

  -- A Lua number has 53 bits. Beyond them revisions would stop growing, and caches not notice.
  if not (number + 1 < 2^53) then
    return {'last revision'}
  end

  -- Writes. A full server refuses SET but not DEL, so a commit that only deletes begins with DEL.
  if not stored_number and (has_set or write_count == 0) then
    call('SET', LAST, decimal(number + 1))
    stored_number, has_written = number + 1, true
  end
  -- The revision: the number of the commit in this shard, and the shard in the lowest 8 bits.
  number = number + 1
  local low = number % 1e9 * 256 + SHARD
  local high = math.floor(number / 1e9) * 256 + math.floor(low / 1e9)
  local revision = string.format('%.0f%09.0f', high, low % 1e9)
  local stored_revision = struct.pack('>I8', number):sub(2) .. string.char(SHARD)
  for n = 0, write_count - 1 do
    local key, arg = KEYS[write_key + n], write_arg + 4 * n
    local component, user_key = own[tonumber(ARGV[arg])], ARGV[arg + 1]
    if ARGV[arg + 2] == 's' then
      call('SET', key, stored_revision .. ARGV[arg + 3])
      if not exists[n] then
        call('ZADD', component.index, 0, user_key)
      end
    else
      call('DEL', key)
      has_written = true
      call('ZREM', component.index, user_key)
    end
    if old_values[n] then
      keep(component.prefix .. user_key, old_values[n])
    end
  end
  local reply = {'written', revision}
  for n, component in ipairs(own) do
    local arg = component_arg + 3 * n - 3
    reply[n + 2] = component.revision
    if ARGV[arg + 1] ~= '0' then
      -- A lost notice costs time, and must not fail a commit that is written.
      redis.pcall(PUBLISH, CHANNEL,
        NOTICE_START .. component.revision .. '\n' .. revision .. ARGV[arg + 2])
      component.bytes = math.max(component.bytes + more_bytes[n], 0)
      component.keys = math.max(component.keys + more_keys[n], 0)
      component.revision, component.is_written = revision, true
    end
  end
  return reply
end

-- Writes what the commits have in common.
local function finish()
  if stored_number ~= number then
    call('SET', LAST, decimal(number))
  end
  for counter, component in pairs(components) do
    if component.is_written then
      call('HSET', counter,
        'bytes', decimal(component.bytes),
        'keys', decimal(component.keys),
        'revision', component.revision)
      if component.prefix ~= '' then
        if component.keys > 0 and not component.is_listed then
          call('ZADD', COMPONENTS, 0, component.prefix)
        elseif component.keys == 0 then
          call('ZREM', COMPONENTS, component.prefix)
        end
      end
    end
  end
  if has_snapshots then
    -- A reader that is late must notice that values it needs were not kept.
    call('ZREMRANGEBYSCORE', SNAPSHOTS, '-inf', '(' .. decimal(now))
    if not newest_snapshot then
      call('UNLINK', OLD, OLD_INDEX)
    end
  end
end

local replies = {}
local is_store = call('HGET', STORE, 'store_id') == ARGV[1]
if is_store then
  prepare()
end
for n = 1, tonumber(ARGV[6]) do
  local has_ended, reply = true, {'other store'}
  if is_store then
    has_ended, reply = pcall(commit)
  end
  if not has_ended then
    -- Before version 7, an error is a text.
    reply = {err = type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[n] = reply
end
if has_written then
  finish()
end
return replies
