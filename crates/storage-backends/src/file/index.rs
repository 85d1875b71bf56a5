//! The sorted keys of a component in memory, so that the cost of a page does not grow
//! with the component.
//!
//! A directory lists its files in no order. The first listing of a component builds
//! the index, and writes keep it up to date. All indexes of a store share a budget;
//! the least recently used are dropped first.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use storage_core::PageRequest;

/// Memory for each key in addition to its bytes: a boxed slice, its share of a B-tree
/// node and of the allocator.
const ENTRY_OVERHEAD: usize = 48;

/// Memory for an empty index and the component that it keeps in memory.
const INDEX_OVERHEAD: usize = 512;

/// The memory that all indexes of a store may use.
#[derive(Debug)]
pub(super) struct IndexBudget {
    max_bytes: usize,
    used_bytes: AtomicUsize,
    clock: AtomicU64,
}

impl IndexBudget {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, used_bytes: AtomicUsize::new(0), clock: AtomicU64::new(0) }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub(super) fn is_exceeded(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.max_bytes
    }
}

/// The user keys of one component.
#[derive(Debug)]
pub(super) struct KeyIndex {
    keys: BTreeSet<Box<str>>,
    bytes: usize,
    /// When it was last used, by the clock of the budget.
    pub(super) used_at: u64,
    budget: Arc<IndexBudget>,
}

impl KeyIndex {
    pub(super) fn new(budget: Arc<IndexBudget>) -> Self {
        let used_at = budget.clock.fetch_add(1, Ordering::Relaxed);
        budget.used_bytes.fetch_add(INDEX_OVERHEAD, Ordering::Relaxed);
        Self { keys: BTreeSet::new(), bytes: INDEX_OVERHEAD, used_at, budget }
    }

    pub(super) fn insert(&mut self, key: &str) {
        if !self.keys.contains(key) {
            self.keys.insert(key.into());
            let bytes = key.len() + ENTRY_OVERHEAD;
            self.bytes += bytes;
            self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        if self.keys.remove(key) {
            let bytes = key.len() + ENTRY_OVERHEAD;
            self.bytes -= bytes;
            self.budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that match a request, up to its limit.
    pub(super) fn page<'a>(
        &'a mut self,
        request: PageRequest<'a>,
    ) -> impl Iterator<Item = &'a str> {
        self.used_at = self.budget.clock.fetch_add(1, Ordering::Relaxed);
        let from = match request.after {
            Some(after) if after >= request.prefix => Bound::Excluded(after),
            _ => Bound::Included(request.prefix),
        };
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .map(|key| &**key)
            .take_while(move |key| key.starts_with(request.prefix))
            .take(request.limit)
    }
}

impl Drop for KeyIndex {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_keys_return_their_bytes() {
        let budget = Arc::new(IndexBudget::new(INDEX_OVERHEAD + 100));
        let mut index = KeyIndex::new(Arc::clone(&budget));
        index.insert("a");
        index.insert("a");
        assert!(!budget.is_exceeded());
        index.insert("b");
        index.insert("c");
        assert!(budget.is_exceeded());
        index.remove("b");
        index.remove("missing");
        assert!(!budget.is_exceeded());
        drop(index);
        assert_eq!(budget.used_bytes.load(Ordering::Relaxed), 0);
    }
}
