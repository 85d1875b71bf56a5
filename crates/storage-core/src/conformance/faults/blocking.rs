//! Storage whose calls wait until they are released.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Intercept, Method, Moment, intercept_storage};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// How long a test waits for an expected call before it fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Forwards calls, and blocks them on command, so that a test can choose an
/// interleaving.
///
/// Its `try_get` returns `None`, so that every read can be blocked.
///
/// ```
/// use std::thread;
/// use storage_core::ComponentStorage;
/// use storage_core::conformance::{Method, Moment, ReferenceStorage, BlockingStorage};
///
/// let storage = BlockingStorage::new(ReferenceStorage::new());
/// storage.set("a", "old".into())?;
///
/// // A read has its value but has not returned yet ...
/// let held = storage.hold(&[Method::Get], Moment::After);
/// let read = thread::scope(|scope| {
///     let reader = scope.spawn(|| storage.get("a"));
///     held.wait_for(1);
///     // ... when a write begins and ends.
///     storage.set("a", "new".into()).expect("sets are not blocked");
///     held.release();
///     reader.join().expect("the reader does not panic")
/// })?;
/// assert_eq!(read, Some("old".into()));
/// assert_eq!(storage.get("a")?, Some("new".into()));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug, Default)]
pub struct BlockingStorage<S> {
    inner: S,
    gates: Mutex<Vec<Arc<Gate>>>,
}

#[derive(Debug)]
struct Gate {
    methods: Vec<Method>,
    moment: Moment,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    waiting: usize,
}

impl<S> BlockingStorage<S> {
    /// Forwards calls to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, gates: Mutex::default() }
    }

    /// The storage that it wraps.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Blocks all later calls of these methods, before or after the storage below
    /// is called, until the returned value is released or dropped.
    pub fn hold(&self, methods: &[Method], moment: Moment) -> Held {
        let gate = Arc::new(Gate {
            methods: methods.to_vec(),
            moment,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|gate| !gate.lock().open);
        gates.push(Arc::clone(&gate));
        Held(gate)
    }

    fn wait(&self, method: Method, moment: Moment) {
        let gates: Vec<Arc<Gate>> = {
            let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            let matches =
                |gate: &&Arc<Gate>| gate.moment == moment && gate.methods.contains(&method);
            gates.iter().filter(matches).cloned().collect()
        };
        for gate in gates {
            gate.pass();
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

/// Blocked calls. They continue when this is released or dropped, so also when a test
/// fails.
#[derive(Debug)]
#[must_use = "dropping it releases the calls immediately"]
pub struct Held(Arc<Gate>);

impl Held {
    /// Waits until `calls` calls are blocked.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    #[expect(clippy::panic, reason = "a test should fail rather than hang")]
    pub fn wait_for(&self, calls: usize) {
        let state = self.0.lock();
        let waiting =
            self.0.changed.wait_timeout_while(state, TIMEOUT, |state| state.waiting < calls);
        let (state, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            panic!(
                "after {TIMEOUT:?} {} of {calls} calls of {:?} are blocked",
                state.waiting, self.0.methods
            );
        }
    }

    /// The number of calls that are blocked now.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }

    /// Releases the calls and stops blocking others.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().open = true;
        self.0.changed.notify_all();
    }
}

impl<S> Intercept for BlockingStorage<S> {
    fn intercept<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        self.wait(method, Moment::Before);
        let result = call();
        self.wait(method, Moment::After);
        result
    }
}

intercept_storage!(BlockingStorage);
