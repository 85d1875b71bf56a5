//! How much is stored.

/// What the keys of a listing take up.
///
/// Bytes are those of the keys, as the storage that answers names them, and of
/// the values: what a user put in, not what an engine needs for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Number of keys.
    pub keys: u64,
}

impl Usage {
    /// What one key with a value of `value_len` bytes takes up.
    pub const fn of(key: &str, value_len: usize) -> Self {
        Self { bytes: key.len() as u64 + value_len as u64, keys: 1 }
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    /// Adds, and stops at the largest number rather than overflow.
    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            keys: self.keys.saturating_add(other.keys),
        }
    }
}

impl std::ops::Sub for Usage {
    type Output = Self;

    /// Subtracts, and stops at zero rather than overflow.
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
