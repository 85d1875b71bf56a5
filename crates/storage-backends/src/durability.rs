//! How much an acknowledged write survives.

/// How much an acknowledged write survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// A write has reached the disk when it returns: it survives a power cut.
    #[default]
    Sync,
    /// A write has reached the operating system when it returns: it survives a
    /// killed process. What a power cut takes, or leaves torn, is told from
    /// what is whole, but may be gone.
    /// [`flush`](storage_core::Store::flush) makes it durable.
    Os,
}
