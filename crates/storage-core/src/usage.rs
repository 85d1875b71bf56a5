//! How much is stored.

/// The number and the size of keys and their values.
///
/// Bytes are those of the keys and the values, without what a backend adds to them. Keys
/// are those of the storage that returns the usage: user keys or full keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Number of keys.
    pub keys: u64,
}

impl Usage {
    /// The usage of one key with a value of `value_len` bytes.
    pub const fn of(key: &str, value_len: usize) -> Self {
        Self { bytes: key.len() as u64 + value_len as u64, keys: 1 }
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    /// Saturates instead of overflowing.
    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            keys: self.keys.saturating_add(other.keys),
        }
    }
}

impl std::ops::Sub for Usage {
    type Output = Self;

    /// Saturates at zero.
    fn sub(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            keys: self.keys.saturating_sub(other.keys),
        }
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |total, item| total + item)
    }
}
