//! The storage below the cache: it yields, fails on command and records every
//! version of every key.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use shuttle::thread::yield_now;
use storage_core::{
    Commit, ComponentStorage, Revision, StorageError, StorageValue, VersionedValue,
};

/// How the next write of a thread fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) panics: bool,
    pub(crate) takes_effect: bool,
}

shuttle::thread_local! {
    /// The call that this thread is in, and how its write fails.
    static CALL: Cell<(usize, Option<Fault>)> = Cell::new((0, None));
}

/// Sets which call this thread makes next, and how its write fails.
pub(crate) fn announce(call: usize, fault: Option<Fault>) {
    CALL.with(|caller| caller.set((call, fault)));
}

/// A state of a key, from one write to the next.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) value: Option<StorageValue>,
    pub(crate) revision: Revision,
    /// The call that wrote it.
    pub(crate) call: usize,
    /// When it took effect.
    pub(crate) time: u64,
}

/// The state of a key before its first write.
const ABSENT: Version = Version { value: None, revision: Revision::new(0), call: 0, time: 0 };

#[derive(Debug, Default)]
struct State {
    versions: BTreeMap<String, Vec<Version>>,
    last_revision: u64,
}

impl State {
    fn read(&self, key: &str) -> Option<VersionedValue> {
        let Version { value, revision, .. } = self.versions.get(key)?.last()?.clone();
        Some(VersionedValue { value: value?, revision })
    }
}

#[derive(Debug, Default)]
pub(crate) struct RecordingStorage {
    /// Never locked across a yield.
    state: Mutex<State>,
    time: AtomicU64,
}

impl RecordingStorage {
    /// Orders all events of an execution.
    pub(crate) fn next_time(&self) -> u64 {
        self.time.fetch_add(1, Ordering::Relaxed)
    }

    /// Every version of a key, oldest first.
    pub(crate) fn versions(&self, key: &str) -> Vec<Version> {
        let written = self.state().versions.get(key).cloned().unwrap_or_default();
        [vec![ABSENT], written].concat()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn yielding<T>(&self, effect: impl FnOnce(&mut State) -> T) -> T {
        yield_now();
        let result = effect(&mut self.state());
        yield_now();
        result
    }

    fn apply(&self, commit: &Commit, call: usize) -> Result<Revision, StorageError> {
        self.yielding(|state| {
            for check in &commit.checks {
                let found = state.read(&check.key);
                check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
            }
            state.last_revision += 1;
            let (revision, time) = (Revision::new(state.last_revision), self.next_time());
            for write in commit.effective_writes() {
                let version = Version { value: write.value.clone(), revision, call, time };
                state.versions.entry(write.key.clone()).or_default().push(version);
            }
            Ok(revision)
        })
    }
}

impl ComponentStorage for RecordingStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get_versioned(key)?.is_some())
    }

    fn list_keys(&self, _: Option<&str>) -> Result<Vec<String>, StorageError> {
        Err(StorageError::Unsupported("the models list no keys".into()))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        Ok(self.yielding(|state| state.read(key)))
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let (call, fault) = CALL.with(Cell::get);
        match fault {
            None => self.apply(&commit, call),
            Some(Fault { panics, takes_effect }) => {
                if takes_effect {
                    drop(self.apply(&commit, call));
                } else {
                    yield_now();
                }
                if panics {
                    resume_unwind(Box::new(()));
                }
                Err(StorageError::IoError("on purpose".into()))
            }
        }
    }
}
