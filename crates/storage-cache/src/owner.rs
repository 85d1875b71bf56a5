//! What belongs to one user of a table.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, Weak};

use storage_core::validate_full_key;

use crate::stats::{CacheStats, Counters};
use crate::stripes::Stripes;
use crate::sync::{DefaultHashBuilder, Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// A user of a table: whose entries count together and are cleared together, and
/// whose writers wait for each other.
#[derive(Debug)]
pub(crate) struct Owner {
    /// What its keys begin with: a partition, or nothing. The keys of one who is
    /// alone may begin otherwise too.
    home: Box<str>,
    /// What stands for it where keys are hashed.
    home_hash: u64,
    /// Whether it has the table to itself.
    is_alone: bool,
    /// The number of times that it was cleared. Whoever brings in an entry holds it
    /// meanwhile, and whoever clears waits for them.
    generation: RwLock<u64>,
    pub(crate) stripes: Stripes,
    pub(crate) counters: Counters,
    /// Where it is to be found by others; dangling where nobody else looks.
    register: Weak<Register>,
}

impl Owner {
    /// The only user of a table. Most of its keys are of this partition.
    pub(crate) fn alone(home: &str) -> Arc<Self> {
        Arc::new(Self::new(home, true, Weak::new()))
    }

    fn new(home: &str, is_alone: bool, register: Weak<Register>) -> Self {
        Self {
            home: home.into(),
            home_hash: DefaultHashBuilder::default().hash_one(home),
            is_alone,
            generation: RwLock::new(0),
            stripes: Stripes::new(),
            counters: Counters::default(),
            register,
        }
    }

    #[inline]
    pub(crate) fn home(&self) -> &str {
        &self.home
    }

    /// A number that stands for its home in the hashes of its keys. Another each time
    /// that an owner is made.
    #[inline]
    pub(crate) fn home_hash(&self) -> u64 {
        self.home_hash
    }

    /// The generation, which stays the same as long as the guard is held.
    pub(crate) fn generation(&self) -> RwLockReadGuard<'_, u64> {
        // An addition is all that changes it.
        self.generation.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins another generation. What is brought in from then on was asked for
    /// after this.
    pub(crate) fn next_generation(&self) {
        *self.generation.write().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Whether a key is one of its own, and one that may be kept: those that break the
    /// rules are not, even if the storage below takes them, so that whoever finds a
    /// key need not check it.
    pub(crate) fn owns(&self, key: &str) -> bool {
        (self.is_alone || key.starts_with(&*self.home)) && validate_full_key(key).is_ok()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(register) = self.register.upgrade() {
            register.forget(self);
        }
    }
}

/// The users of a table that several share. All who use the keys of one prefix at
/// a time are one owner, and so is whoever comes back while entries of it are
/// held.
#[derive(Debug, Default)]
pub(crate) struct Register(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    owners: HashMap<Box<str>, Weak<Owner>>,
    /// What owners did that are no more.
    past: CacheStats,
}

impl Register {
    fn lock(&self) -> MutexGuard<'_, Registered> {
        // Every change is one call or a sum, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of the keys that begin with `prefix`.
    pub(crate) fn owner(self: &Arc<Self>, prefix: &str) -> Arc<Owner> {
        let mut registered = self.lock();
        if let Some(owner) = registered.owners.get(prefix).and_then(Weak::upgrade) {
            return owner;
        }
        let owner = Arc::new(Owner::new(prefix, false, Arc::downgrade(self)));
        registered.owners.insert(prefix.into(), Arc::downgrade(&owner));
        owner
    }

    fn forget(&self, owner: &Owner) {
        let mut registered = self.lock();
        // Another may have come meanwhile.
        let mine = registered.owners.get(&owner.home);
        if mine.is_some_and(|known| std::ptr::eq(known.as_ptr(), owner)) {
            registered.owners.remove(&owner.home);
            // A map keeps its memory; users that came and went must leave none.
            let capacity = registered.owners.capacity();
            if registered.owners.len() < capacity / 4 {
                registered.owners.shrink_to(capacity / 2);
            }
        }
        registered.past = [registered.past, owner.counters.read()].into_iter().sum();
    }

    /// What the owner of the keys that begin with `prefix` has done, if there is
    /// one.
    pub(crate) fn stats_of(&self, prefix: &str) -> CacheStats {
        let owner = self.lock().owners.get(prefix).and_then(Weak::upgrade);
        owner.map_or_else(CacheStats::default, |owner| owner.counters.read())
    }

    /// What all owners have done, and hold together.
    pub(crate) fn stats(&self) -> CacheStats {
        let registered = self.lock();
        let past = registered.past;
        // The last holder of one forgets it, which takes the lock again.
        let owners: Vec<Arc<Owner>> =
            registered.owners.values().filter_map(Weak::upgrade).collect();
        drop(registered);
        owners.iter().map(|owner| owner.counters.read()).chain([past]).sum()
    }
}
