//! Storage whose calls wait until they are let go on.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Around, Method, Moment, storage_around};
use crate::{
    Commit, ComponentStorage, KeyPage, PageRequest, Revision, StorageError, StorageValue, Usage,
    VersionedValue,
};

/// How long a test waits for a call that should come. Long enough for the
/// slowest machine; it only ends a test that would hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes calls on, and holds them up when it is told to.
///
/// With it a test chooses one interleaving out of all, instead of hoping for it.
///
/// ```
/// use std::thread;
/// use storage_core::ComponentStorage;
/// use storage_core::conformance::{Method, Moment, ReferenceStorage, SlowStorage};
///
/// let storage = SlowStorage::new(ReferenceStorage::new());
/// storage.set("a", "old".into())?;
///
/// // A read that has its value, but has not returned yet ...
/// let held = storage.hold(&[Method::Get], Moment::After);
/// let read = thread::scope(|scope| {
///     let reader = scope.spawn(|| storage.get("a"));
///     held.wait_for(1);
///     // ... while a write comes and goes.
///     storage.set("a", "new".into()).expect("sets are not held");
///     held.release();
///     reader.join().expect("the reader does not panic")
/// })?;
/// assert_eq!(read, Some("old".into()));
/// assert_eq!(storage.get("a")?, Some("new".into()));
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug, Default)]
pub struct SlowStorage<S> {
    inner: S,
    delay: Duration,
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

impl<S> SlowStorage<S> {
    /// Passes calls on to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, delay: Duration::ZERO, gates: Mutex::default() }
    }

    /// Makes every call take this much longer, as a slow disk or network does.
    ///
    /// For measurements; an interleaving is chosen with [`hold`](Self::hold).
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The storage that calls are passed on to, without waiting.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Holds up all calls of these methods from now on, before or after they are
    /// passed on, until the answer is released or dropped.
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
            let concerned =
                |gate: &&Arc<Gate>| gate.moment == moment && gate.methods.contains(&method);
            gates.iter().filter(concerned).cloned().collect()
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

/// Calls that are held up. They go on when this is released or dropped, also by
/// a test that fails.
#[derive(Debug)]
#[must_use = "dropping it lets the calls go on at once"]
pub struct Held(Arc<Gate>);

impl Held {
    /// Waits until `calls` calls are held up.
    ///
    /// # Panics
    /// If that does not happen within a minute.
    #[expect(clippy::panic, reason = "a test that waits for ever says less than one that fails")]
    pub fn wait_for(&self, calls: usize) {
        let state = self.0.lock();
        let waiting =
            self.0.changed.wait_timeout_while(state, PATIENCE, |state| state.waiting < calls);
        let (state, waited) = waiting.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            panic!(
                "after {PATIENCE:?} {} of {calls} calls of {:?} are held up",
                state.waiting, self.0.methods
            );
        }
    }

    /// How many calls are held up now.
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting
    }

    /// Lets the calls go on; later ones are not held up any more.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().open = true;
        self.0.changed.notify_all();
    }
}

impl<S> Around for SlowStorage<S> {
    fn around<T>(
        &self,
        method: Method,
        call: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if !self.delay.is_zero() {
            thread::sleep(self.delay);
        }
        self.wait(method, Moment::Before);
        let result = call();
        self.wait(method, Moment::After);
        result
    }
}

storage_around!(SlowStorage);
