//! The storage below the cache: slow, failing on command, and a witness.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shuttle::thread::yield_now;
use storage_core::{
    Commit, ComponentStorage, Revision, StorageError, StorageValue, VersionedValue, Write,
};

/// Orders all that happens in an execution.
#[derive(Debug, Default)]
pub(crate) struct Stamps(AtomicU64);

impl Stamps {
    pub(crate) fn next(&self) -> u64 {
        // One thread to std, so any ordering does.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// How the next write of a thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) panics: bool,
    pub(crate) takes_effect: bool,
}

/// Which call a thread is in, and what shall happen to it.
#[derive(Debug, Clone, Copy)]
struct Caller {
    call: usize,
    fault: Option<Fault>,
}

/// The call of whoever has said nothing.
const NOBODY: Caller = Caller { call: 0, fault: None };

shuttle::thread_local! {
    static CALLER: Cell<Caller> = Cell::new(NOBODY);
}

/// Says which call this thread makes next, and what shall happen to its write.
pub(crate) fn announce(call: usize, fault: Option<Fault>) {
    CALLER.with(|caller| caller.set(Caller { call, fault }));
}

/// A state that a key has had, since a write until the next.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) value: Option<StorageValue>,
    pub(crate) revision: Revision,
    /// Which call wrote it.
    pub(crate) call: usize,
    /// When it took effect.
    pub(crate) stamp: u64,
}

/// Every key that was ever written, with every version of it, oldest first.
#[derive(Debug, Default)]
struct State {
    keys: Vec<(String, Vec<Version>)>,
    last_revision: u64,
}

/// Takes its time before and after each effect, and remembers every write.
#[derive(Debug)]
pub(crate) struct Below {
    state: Mutex<State>,
    stamps: Stamps,
}

impl Version {
    /// What a key begins with.
    const ABSENT: Self = Self { value: None, revision: Revision::new(0), call: 0, stamp: 0 };
}

impl State {
    fn versions(&self, key: &str) -> Option<&Vec<Version>> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, versions)| versions)
    }

    fn latest(&self, key: &str) -> Option<&Version> {
        self.versions(key)?.last()
    }

    fn read(&self, key: &str) -> Option<VersionedValue> {
        let version = self.latest(key)?;
        let value = version.value.clone()?;
        Some(VersionedValue { value, revision: version.revision })
    }

    fn write(&mut self, write: &Write, call: usize, stamp: u64) {
        let revision = Revision::new(self.last_revision);
        let version = Version { value: write.value.clone(), revision, call, stamp };
        match self.keys.iter_mut().find(|(known, _)| *known == write.key) {
            Some((_, versions)) => versions.push(version),
            None => self.keys.push((write.key.clone(), vec![Version::ABSENT, version])),
        }
    }

    fn apply(
        &mut self,
        commit: &Commit,
        call: usize,
        stamp: u64,
    ) -> Result<Revision, StorageError> {
        for check in &commit.checks {
            let found = self.read(&check.key);
            check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
        }
        self.last_revision += 1;
        for write in commit.effective_writes() {
            self.write(write, call, stamp);
        }
        Ok(Revision::new(self.last_revision))
    }
}

impl Below {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::default(), stamps: Stamps::default() }
    }

    pub(crate) fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Every version of a key, oldest first.
    pub(crate) fn versions(&self, key: &str) -> Vec<Version> {
        self.state().versions(key).cloned().unwrap_or_else(|| vec![Version::ABSENT])
    }

    /// What a key is now.
    pub(crate) fn latest(&self, key: &str) -> Version {
        self.state().latest(key).cloned().unwrap_or(Version::ABSENT)
    }

    /// Never held while threads change over.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slowly<T>(&self, effect: impl FnOnce(&mut State) -> T) -> T {
        yield_now();
        let result = effect(&mut self.state());
        yield_now();
        result
    }

    fn write(&self, commit: &Commit) -> Result<Revision, StorageError> {
        let Caller { call, fault } = CALLER.with(Cell::get);
        let happens = fault.is_none_or(|fault| fault.takes_effect);
        let result = self.slowly(|state| match happens {
            true => state.apply(commit, call, self.stamps.next()),
            false => Ok(Revision::new(0)),
        });
        match fault {
            None => result,
            Some(Fault { panics: true, .. }) => resume_unwind(Box::new(())),
            Some(_) => Err(StorageError::IoError("on purpose".into())),
        }
    }
}

impl ComponentStorage for Below {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.put(key, value).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.write(&Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get_versioned(key)?.is_some())
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("the models list nothing".into()))
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        // One after another, as a store may that promises no snapshot.
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Ok(self.slowly(|state| state.read(key)))
    }

    fn put(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
        self.write(&Commit::new().set(key, value))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.write(&commit)
    }
}
