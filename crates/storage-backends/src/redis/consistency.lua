-- Reads what verify found to contradict itself again, at one point in time.
--
-- KEYS: components, index, value.
-- ARGV: component prefix, user key.

local COMPONENTS, INDEX, VALUE = unpack(KEYS)
local function text(is_true)
  return is_true and '1' or ''
end
return {
  text(redis.call('ZSCORE', COMPONENTS, ARGV[1])),
  text(redis.call('ZCARD', INDEX) > 0),
  text(redis.call('ZSCORE', INDEX, ARGV[2])),
  text(redis.call('EXISTS', VALUE) == 1),
}
