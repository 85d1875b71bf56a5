//! Options for opening a store.

use storage_core::{Durability, StorageError};

/// How to open a [`RedbStorage`](super::RedbStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedbOptions {
    /// What an acknowledged write survives: [`Durability::Sync`] or
    /// [`Durability::Relaxed`]. What the engine has not made durable is only in the
    /// process's memory, so [`Durability::Os`] is not supported.
    pub durability: Durability,
    /// The size of the engine's page cache, in bytes. Default: 64 MiB.
    pub cache_bytes: usize,
    /// A file of at most this many bytes is checked when it is opened. Default: 1 GiB; 0
    /// for never, `u64::MAX` for always.
    ///
    /// The checksum of a value is compared at every read. Those of the engine's tree
    /// pages are compared only here and after a crash. In a larger file, damage to them
    /// may hide keys until [`verify`](super::RedbStorage::verify) finds it. The check
    /// reads the file once, in about 0.5 s for each GB in the page cache.
    pub check_up_to_bytes: u64,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self { durability: Durability::Sync, cache_bytes: 64 << 20, check_up_to_bytes: 1 << 30 }
    }
}

impl RedbOptions {
    /// Sets the durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the size of the cache.
    #[must_use]
    pub fn with_cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Sets up to which size a file is checked when it is opened.
    #[must_use]
    pub fn with_check_up_to_bytes(mut self, bytes: u64) -> Self {
        self.check_up_to_bytes = bytes;
        self
    }

    /// Returns whether a write returns before it is durable.
    pub(super) fn is_relaxed(&self) -> Result<bool, StorageError> {
        match self.durability {
            Durability::Sync => Ok(false),
            Durability::Relaxed => Ok(true),
            Durability::Os => Err(StorageError::Unsupported(
                "a redb store does not support durability \"os\"; use \"sync\" or \"relaxed\""
                    .into(),
            )),
        }
    }
}
