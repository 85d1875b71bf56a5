//! A scope: what the entries of one component share.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use storage_core::validate_full_key;

use crate::freshness::Freshness;
use crate::key_locks::KeyLocks;
use crate::stats::{CacheStats, Counters};
use crate::sync::{DefaultHashBuilder, Mutex, MutexGuard};

/// The keys of one component in a shared cache, or all keys of a private cache.
///
/// Their entries are counted and cleared together, and their writes use the same
/// key locks.
#[derive(Debug)]
pub(crate) struct Scope {
    /// The prefix of the keys. A private cache may also have keys without it, if no other
    /// host writes to the storage below.
    prefix: Box<str>,
    /// Hashed in place of the prefix.
    prefix_hash: u64,
    is_private: bool,
    pub(crate) freshness: Freshness,
    pub(crate) key_locks: KeyLocks,
    pub(crate) counters: Counters,
    /// Where the scope is registered; dangling for a private cache.
    scopes: Weak<Scopes>,
}

impl Scope {
    /// The scope of a private cache, most of whose keys begin with `prefix`.
    pub(crate) fn private(prefix: &str) -> Arc<Self> {
        Arc::new(Self::new(prefix, true, None, Weak::new()))
    }

    /// The scope of a private cache for the keys that begin with `prefix`, which other hosts
    /// may write.
    pub(crate) fn followed(prefix: &str, max_staleness: Duration) -> Arc<Self> {
        Arc::new(Self::new(prefix, false, Some(max_staleness), Weak::new()))
    }

    fn new(
        prefix: &str,
        is_private: bool,
        max_staleness: Option<Duration>,
        scopes: Weak<Scopes>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            prefix_hash: DefaultHashBuilder::default().hash_one(prefix),
            is_private,
            freshness: Freshness::new(max_staleness),
            key_locks: KeyLocks::new(),
            counters: Counters::default(),
            scopes,
        }
    }

    #[inline]
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    #[inline]
    pub(crate) fn prefix_hash(&self) -> u64 {
        self.prefix_hash
    }

    /// Whether the scope may have an entry for a key.
    ///
    /// Invalid keys have none, even if the storage below accepts them, so a cached key
    /// need not be validated again.
    pub(crate) fn owns(&self, key: &str) -> bool {
        (self.is_private || key.starts_with(&*self.prefix)) && validate_full_key(key).is_ok()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if let Some(scopes) = self.scopes.upgrade() {
            scopes.remove(self);
        }
    }
}

/// The scopes of a shared cache. A prefix has at most one scope, which exists while a
/// component's view or an entry uses it.
#[derive(Debug, Default)]
pub(crate) struct Scopes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    scopes: HashMap<Box<str>, Weak<Scope>>,
    /// The statistics of scopes that no longer exist.
    past: CacheStats,
}

impl Scopes {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a single step, so a panic leaves a valid state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scope(
        self: &Arc<Self>,
        prefix: &str,
        max_staleness: Option<Duration>,
    ) -> Arc<Scope> {
        let mut state = self.lock();
        if let Some(scope) = state.scopes.get(prefix).and_then(Weak::upgrade) {
            return scope;
        }
        let scope = Scope::new(prefix, false, max_staleness, Arc::downgrade(self));
        let scope = Arc::new(scope);
        state.scopes.insert(prefix.into(), Arc::downgrade(&scope));
        scope
    }

    fn remove(&self, scope: &Scope) {
        let mut state = self.lock();
        // The prefix may have a new scope already.
        let registered = state.scopes.get(&scope.prefix);
        if registered.is_some_and(|registered| std::ptr::eq(registered.as_ptr(), scope)) {
            state.scopes.remove(&scope.prefix);
            let capacity = state.scopes.capacity();
            if state.scopes.len() < capacity / 4 {
                state.scopes.shrink_to(capacity / 2);
            }
        }
        state.past = [state.past, scope.counters.read()].into_iter().sum();
    }

    pub(crate) fn stats_of(&self, prefix: &str) -> CacheStats {
        let scope = self.lock().scopes.get(prefix).and_then(Weak::upgrade);
        scope.map_or_else(CacheStats::default, |scope| scope.counters.read())
    }

    /// The statistics of all scopes, past ones included.
    pub(crate) fn stats(&self) -> CacheStats {
        let state = self.lock();
        let past = state.past;
        let scopes: Vec<Arc<Scope>> = state.scopes.values().filter_map(Weak::upgrade).collect();
        // Dropping the last reference to a scope takes the lock again.
        drop(state);
        scopes.iter().map(|scope| scope.counters.read()).chain([past]).sum()
    }
}
