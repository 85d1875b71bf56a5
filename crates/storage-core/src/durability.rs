//! How much a write that returned survives.

use std::fmt;

/// How much a write that returned survives, in falling order of safety.
///
/// Not every store offers each of them; opening a store with one that it lacks
/// is [`StorageError::Unsupported`](crate::StorageError::Unsupported).
/// [`Store::flush`](crate::Store::flush) makes everything durable with any of
/// them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// A write is on disk when it returns: it survives a power cut.
    #[default]
    Sync,
    /// A write is with the operating system when it returns: it survives a
    /// killed process. A power cut may lose or tear it; a torn value is detected.
    Os,
    /// A write is in the process's memory when it returns and is made durable
    /// within about 100 ms, or when the store is closed. A killed process, a power
    /// cut, or an I/O error other than a full disk may lose the writes since then.
    /// What remains is an earlier state of the store, with every commit whole.
    Interval,
}

impl fmt::Display for Durability {
    /// Writes the name that store URLs use: `sync`, `os` or `relaxed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Os => "os",
            Self::Interval => "relaxed",
        })
    }
}
