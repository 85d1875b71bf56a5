//! What an acknowledged write survives.

use std::fmt;

/// What an acknowledged write survives, from the safest to the weakest setting.
///
/// Not every store supports every setting; opening a store with an unsupported one fails
/// with [`StorageError::Unsupported`](crate::StorageError::Unsupported).
/// [`Store::flush`](crate::Store::flush) makes all writes durable with any setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// A write is on disk when it returns: it survives a power cut.
    #[default]
    Sync,
    /// A write has been passed to the operating system when it returns: it survives a
    /// killed process. A power cut may lose or tear it; a torn value is detected.
    Os,
    /// A write is in the process's memory when it returns, and is made durable within about
    /// 100 ms, or when the store is closed. A killed process, a power cut, or an I/O error
    /// other than a full disk may lose the writes that are not durable yet. The store then
    /// returns to an earlier state, in which every commit is complete.
    Relaxed,
}

impl fmt::Display for Durability {
    /// Writes the name that store URLs use: `sync`, `os` or `relaxed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Os => "os",
            Self::Relaxed => "relaxed",
        })
    }
}
