//! The limits of a cache.

use std::time::Duration;

use crate::layout::Layout;

/// The size of a [`CachedStorage`](crate::CachedStorage), and how long its entries are
/// valid.
///
/// ```
/// use std::time::Duration;
/// use storage_cache::CacheConfig;
///
/// let config = CacheConfig {
///     max_entries: 1_000,
///     ttl: Some(Duration::from_secs(10)),
///     max_size_bytes: 4 << 20,
/// };
/// assert_ne!(config, CacheConfig::default());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// The maximum number of keys, cached absence included; 0 turns the cache off. The
    /// table of entries is sized for one key per KiB of `max_size_bytes` and holds at most
    /// two and a half keys per KiB.
    pub max_entries: usize,
    /// How long an entry is valid, counted from the start of the call that added it;
    /// `None` for no limit, and zero turns the cache off. A write that bypasses the cache
    /// becomes visible within this time. An entry may expire up to one tick of the
    /// system's coarse clock early, typically 4 ms.
    pub ttl: Option<Duration>,
    /// The maximum number of bytes: keys, values, and the memory of the cache itself.
    /// Less than 1 KiB turns the cache off. A value that would fill more than 97 % of the
    /// room for entries, or of one shard if there are several
    /// ([`CachedStorage`](crate::CachedStorage) says when), is not cached.
    pub max_size_bytes: usize,
}

impl Default for CacheConfig {
    /// 10,000 entries, 60 seconds, 16 MiB.
    fn default() -> Self {
        Self { max_entries: 10_000, ttl: Some(Duration::from_secs(60)), max_size_bytes: 16 << 20 }
    }
}

impl CacheConfig {
    /// No cache: every read is a read of the storage below.
    pub const fn off() -> Self {
        Self { max_entries: 0, ttl: None, max_size_bytes: 0 }
    }

    /// Whether there is no cache: no entry fits, or it expires at once.
    pub fn is_off(&self) -> bool {
        Layout::of(self).is_none()
    }

    /// One of `parts` equal parts.
    pub(crate) fn part(&self, parts: usize) -> Self {
        Self {
            max_entries: self.max_entries / parts.max(1),
            ttl: self.ttl,
            max_size_bytes: self.max_size_bytes / parts.max(1),
        }
    }
}
