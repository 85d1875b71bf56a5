//! The composition of the reference document, as its code says: two strings are
//! formatted for each key, one lock guards a map with std's hasher, an entry keeps
//! when it was made, and a hit copies the bytes.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use storage_core::StorageError;

/// What each of the layers is.
pub(crate) trait Layer: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError>;
}

/// The storage at the bottom.
pub(crate) type Below = Box<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

impl Layer for Below {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(Some(self(key)))
    }
}

/// Whose keys they are.
struct Id {
    namespace: String,
    name: String,
    instance: String,
}

impl Id {
    fn to_text(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.name, self.instance)
    }
}

/// Puts the component in front of the key.
struct Namespaced<L> {
    id: Id,
    below: L,
}

impl<L: Layer> Layer for Namespaced<L> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.below.get(&format!("{}/{key}", self.id.to_text()))
    }
}

struct Entry {
    value: Vec<u8>,
    made: Instant,
}

/// Keeps what was read.
struct Cached<L> {
    entries: RwLock<HashMap<String, Entry>>,
    ttl: Option<Duration>,
    below: L,
}

impl<L: Layer> Layer for Cached<L> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StorageError> {
        if let Some(entry) = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(key)
            && self.ttl.is_none_or(|ttl| entry.made.elapsed() <= ttl)
        {
            return Ok(Some(entry.value.clone()));
        }
        let value = self.below.get(key)?;
        if let Some(value) = &value {
            let entry = Entry { value: value.clone(), made: Instant::now() };
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            entries.insert(key.to_owned(), entry);
        }
        Ok(value)
    }
}

/// The layers, the component's on top.
pub(crate) fn compose(id: [&str; 3], ttl: Duration, below: Below) -> Box<dyn Layer> {
    let [namespace, name, instance] = id.map(str::to_owned);
    let cached = Cached { entries: RwLock::default(), ttl: Some(ttl), below };
    Box::new(Namespaced { id: Id { namespace, name, instance }, below: cached })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_second_read_asks_nobody_while_the_entry_counts() {
        for (ttl, expected) in [(Duration::MAX, 1), (Duration::ZERO, 2)] {
            let asked = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&asked);
            let below = move |key: &str| {
                counted.fetch_add(1, Ordering::Relaxed);
                key.as_bytes().to_vec()
            };
            let storage = compose(["a", "b", "c"], ttl, Box::new(below));
            for _ in 0..2 {
                assert_eq!(storage.get("key").unwrap().unwrap(), b"a/b/c/key");
                // Longer than no time.
                let start = Instant::now();
                while start.elapsed().is_zero() {}
            }
            assert_eq!(asked.load(Ordering::Relaxed), expected, "{ttl:?}");
        }
    }
}
