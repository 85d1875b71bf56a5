//! How to open a store.

/// How much an acknowledged write survives.
///
/// There is no mode between the two: what the engine has not made durable lives
/// in the process's memory alone, so a killed process loses it as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RedbDurability {
    /// A write has reached the disk when it returns: it survives a power cut.
    #[default]
    Sync,
    /// A write returns when every reader sees it. It is made durable within
    /// about 100 ms, at [`flush`](storage_core::ComponentStorage::flush), and
    /// when the store is closed; a killed process or a power cut loses what was
    /// written since. What is left is a state that the store was in, with every
    /// commit whole. An I/O error, though not a full disk, can cost as much while
    /// the process lives; the next flush says so.
    Relaxed,
}

/// How to open a [`RedbStorage`](super::RedbStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbOptions {
    /// How much an acknowledged write survives.
    pub durability: RedbDurability,
    /// What the engine may keep in memory of the file, in bytes. Default: 64
    /// MiB.
    pub cache_bytes: usize,
    /// The largest file, in bytes, that is checked as a whole when it is opened.
    /// Default: 1 GiB; 0 for never, `u64::MAX` for always.
    ///
    /// Every value has a checksum that is tested whenever it is read. What tells
    /// where a value lies has one too, which the engine tests only here and
    /// after a crash: in a larger file, damage there may hide keys, until
    /// [`verify`](super::RedbStorage::verify) finds it. The check reads the file
    /// once, at some 0.5 s for each GB that the system has in memory.
    pub check_up_to_bytes: u64,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { durability: RedbDurability::Sync, cache_bytes: 64 << 20, check_up_to_bytes: 1 << 30 }
    }
}

impl RedbOptions {
    /// The same with another durability.
    #[must_use]
    pub fn with_durability(mut self, durability: RedbDurability) -> Self {
        self.durability = durability;
        self
    }

    /// The same with another size of the cache.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// The same with another limit for the check of the whole file.
    #[must_use]
    pub fn with_check_up_to_bytes(mut self, bytes: u64) -> Self {
        self.check_up_to_bytes = bytes;
        self
    }
}
