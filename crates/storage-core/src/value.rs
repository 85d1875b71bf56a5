//! The value type of all layers.

use std::fmt;
use std::sync::Arc;

/// The bytes stored under a key.
///
/// A value is immutable and shared: [`Clone`] copies no bytes, so a cache, a
/// store and a guest call can share one allocation. An empty value is present, not
/// missing.
///
/// ```
/// use storage_core::StorageValue;
///
/// let value = StorageValue::new(b"milk".to_vec());
/// let copy = value.clone(); // shares the bytes
/// assert_eq!(copy.as_bytes(), b"milk");
/// assert_eq!(value.into_bytes(), b"milk".to_vec());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageValue(Arc<[u8]>);

impl StorageValue {
    /// Creates a value. Copies the bytes once.
    pub fn new(data: Vec<u8>) -> Self {
        Self(data.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies the bytes into a vector. [`into_shared`](Self::into_shared) does not copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Returns the shared bytes without copying them.
    ///
    /// wasmtime lowers an `Arc<[u8]>` directly, so a cached value is copied only once,
    /// into the guest.
    pub fn into_shared(self) -> Arc<[u8]> {
        self.0
    }
}

impl From<Vec<u8>> for StorageValue {
    fn from(data: Vec<u8>) -> Self {
        Self::new(data)
    }
}

impl From<StorageValue> for Vec<u8> {
    fn from(value: StorageValue) -> Self {
        value.into_bytes()
    }
}

impl From<&[u8]> for StorageValue {
    fn from(data: &[u8]) -> Self {
        Self(data.into())
    }
}

impl<const N: usize> From<&[u8; N]> for StorageValue {
    fn from(data: &[u8; N]) -> Self {
        Self(data.as_slice().into())
    }
}

impl From<&str> for StorageValue {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<Arc<[u8]>> for StorageValue {
    fn from(data: Arc<[u8]>) -> Self {
        Self(data)
    }
}

impl From<StorageValue> for Arc<[u8]> {
    fn from(value: StorageValue) -> Self {
        value.into_shared()
    }
}

impl AsRef<[u8]> for StorageValue {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Shows only the length, because values do not belong in a log.
impl fmt::Debug for StorageValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageValue({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_the_bytes() {
        let value = StorageValue::new(vec![1, 2, 3]);
        let copy = value.clone();
        assert!(std::ptr::eq(value.as_bytes(), copy.as_bytes()));
        assert!(Arc::ptr_eq(&value.into_shared(), &copy.into_shared()));
    }

    #[test]
    fn debug_does_not_show_the_bytes() {
        let value = StorageValue::from("secret");
        assert_eq!(format!("{value:?}"), "StorageValue(6 bytes)");
    }

    #[test]
    fn bytes_survive_every_conversion() {
        let bytes = vec![0, 159, 146, 150];
        assert_eq!(Vec::from(StorageValue::from(bytes.clone())), bytes);
        assert_eq!(StorageValue::from(bytes.as_slice()).as_bytes(), bytes);
        assert_eq!(&*Arc::<[u8]>::from(StorageValue::new(bytes.clone())), bytes);
    }
}
