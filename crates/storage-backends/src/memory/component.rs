//! The keys of one component in memory.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

use foldhash::fast::RandomState;
use storage_core::{PageRequest, Revision, StorageValue, Usage, VersionedValue};

/// The keys of one component, or the unscoped keys.
#[derive(Debug, Default)]
pub(super) struct Component {
    /// By user key. A hash table, because reads and overwrites are most of the calls, and
    /// need no order. Its hash function has a random seed, since guests choose the keys.
    values: HashMap<Arc<str>, VersionedValue, RandomState>,
    /// The same keys in order, for listings.
    order: BTreeSet<Arc<str>>,
    usage: Usage,
    /// Whether it was removed from the store while it was empty. A writer that still has it
    /// must get the current one from the store.
    pub(super) removed: bool,
}

impl Component {
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The usage of all keys.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    #[inline]
    pub(super) fn get(&self, user_key: &str) -> Option<&VersionedValue> {
        self.values.get(user_key)
    }

    /// All keys with their values, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &VersionedValue)> {
        self.values.iter().map(|(key, found)| (&**key, found))
    }

    /// The user keys that match a request in order, beyond its limit too.
    pub(super) fn keys<'a>(&'a self, request: PageRequest<'a>) -> impl Iterator<Item = &'a str> {
        let start =
            start_of(request.prefix, request.after.map_or(Bound::Unbounded, Bound::Excluded));
        self.order
            .range::<str, _>((start, Bound::Unbounded))
            .map(|key| &**key)
            .take_while(move |key| key.starts_with(request.prefix))
    }

    /// Sets or deletes a key.
    pub(super) fn write(
        &mut self,
        user_key: &str,
        value: Option<StorageValue>,
        revision: Revision,
    ) {
        let Some(value) = value else {
            if let Some(old) = self.values.remove(user_key) {
                self.order.remove(user_key);
                self.usage = self.usage - Usage::of(user_key, old.value.len());
                self.shrink();
            }
            return;
        };
        self.usage = self.usage + Usage::of(user_key, value.len());
        let new = VersionedValue { value, revision };
        match self.values.get_mut(user_key) {
            Some(found) => {
                let old = mem::replace(found, new);
                self.usage = self.usage - Usage::of(user_key, old.value.len());
            }
            None => {
                let key: Arc<str> = user_key.into();
                self.order.insert(Arc::clone(&key));
                self.values.insert(key, new);
            }
        }
    }

    /// A hash table keeps its memory; shrinks it after most keys were deleted.
    fn shrink(&mut self) {
        let capacity = self.values.capacity();
        if capacity > 64 && self.values.len() < capacity / 8 {
            self.values.shrink_to(capacity / 4);
        }
    }
}

/// The start of a range of texts that begin with `prefix` and lie within `from`.
pub(super) fn start_of<'a>(prefix: &'a str, from: Bound<&'a str>) -> Bound<&'a str> {
    match from {
        Bound::Included(text) | Bound::Excluded(text) if text >= prefix => from,
        _ => Bound::Included(prefix),
    }
}
