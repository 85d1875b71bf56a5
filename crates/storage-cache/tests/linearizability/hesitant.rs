//! Storage that takes its time, a different one for each call.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::yield_now;

use storage_core::{
    Commit, ComponentStorage, Revision, StorageError, StorageValue, VersionedValue,
};

/// Lets other threads go first, before each call and after it.
pub(crate) struct Hesitant<S> {
    pub(crate) inner: S,
    calls: AtomicU64,
}

impl<S> Hesitant<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, calls: AtomicU64::new(0) }
    }

    fn hesitate(&self) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        // Knuth's multiplicative hash: enough to spread.
        match number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61 {
            0 => yield_now(),
            spins => (0..spins * 200).for_each(|_| spin_loop()),
        }
    }

    fn slowly<T>(&self, call: impl FnOnce(&S) -> T) -> T {
        self.hesitate();
        let result = call(&self.inner);
        self.hesitate();
        result
    }
}

impl<S: ComponentStorage> ComponentStorage for Hesitant<S> {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        self.slowly(|inner| inner.get(key))
    }
    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.slowly(|inner| inner.set(key, value))
    }
    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.slowly(|inner| inner.delete(key))
    }
    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        self.slowly(|inner| inner.exists(key))
    }
    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        self.slowly(|inner| inner.list_keys(prefix))
    }
    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        // One by one: no snapshot.
        keys.iter().map(|key| self.get(key)).collect()
    }
    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.slowly(|inner| inner.get_versioned(key))
    }
    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.slowly(|inner| inner.commit(commit))
    }
}
