//! How to open a store.

use storage_core::{Durability, StorageError};

/// How to open a [`RedbStorage`](super::RedbStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbOptions {
    /// How much a write that returned survives: [`Durability::Sync`] or
    /// [`Durability::Interval`]. What the engine has not made durable is in the
    /// process's memory only, so there is no [`Durability::Os`].
    pub durability: Durability,
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
        Self { durability: Durability::Sync, cache_bytes: 64 << 20, check_up_to_bytes: 1 << 30 }
    }
}

impl RedbOptions {
    /// The same with another durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
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

    /// Returns whether a write returns before it is durable.
    pub(super) fn is_relaxed(&self) -> Result<bool, StorageError> {
        match self.durability {
            Durability::Sync => Ok(false),
            Durability::Interval => Ok(true),
            Durability::Os => Err(StorageError::Unsupported(
                "a redb store has no durability \"os\"; use \"sync\" or \"relaxed\"".into(),
            )),
        }
    }
}
