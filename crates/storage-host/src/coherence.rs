//! Keeps the caches of a host coherent with a store that other hosts write to.
//!
//! The rules are in storage-cache. This starts the thread that polls the store.

use std::collections::HashMap;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use storage_cache::{Clock, Coherence, CoherenceStats};
use storage_core::{ComponentId, StorageError, Store};

use crate::host::ComponentSettings;
use crate::shutdown::GatedStore;

/// The least maximum staleness. Below it polls would be too frequent, and the system's coarse
/// clock not exact enough.
pub(crate) const MIN_STALENESS: Duration = Duration::from_millis(100);

/// How often the store is polled within the least maximum staleness of the components. Entries
/// stay usable if all but one of these polls fail.
const POLLS: u32 = 5;

/// Follows the writes of other hosts. Its thread ends when it is dropped.
pub(crate) struct Follower {
    coherence: Coherence,
    store: Weak<GatedStore>,
    /// Disconnects when the follower is dropped.
    _running: mpsc::Sender<()>,
}

impl Follower {
    /// Follows the store; `None` if no other host can write to it.
    pub(crate) fn new(store: &Arc<GatedStore>, clock: Clock, interval: Duration) -> Option<Self> {
        let is_manual = clock.is_manual();
        let coherence = Coherence::new(clock);
        store.shared()?.watch(Arc::new(coherence.clone()));
        let (running, stopped) = mpsc::channel();
        let follower =
            Self { coherence: coherence.clone(), store: Arc::downgrade(store), _running: running };
        if !is_manual {
            let store = Weak::clone(&follower.store);
            // Without a thread, caches lose their entries each time they reach the maximum
            // staleness. Nothing is stale.
            let _ = thread::Builder::new().name("coherence".to_owned()).spawn(move || {
                while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                    // A failure is counted. The next poll may succeed.
                    let _ = poll(&coherence, &store);
                }
            });
        }
        Some(follower)
    }

    pub(crate) fn coherence(&self) -> &Coherence {
        &self.coherence
    }

    pub(crate) fn stats(&self) -> CoherenceStats {
        self.coherence.stats()
    }

    /// Polls the store now.
    pub(crate) fn poll(&self) -> Result<(), StorageError> {
        poll(&self.coherence, &self.store)
    }
}

fn poll(coherence: &Coherence, store: &Weak<GatedStore>) -> Result<(), StorageError> {
    let store = store.upgrade();
    let Some(shared) = store.as_ref().and_then(|store| store.shared()) else { return Ok(()) };
    let polled = coherence.poll(shared);
    // The components of a server need not be polled, as those without a cache. Otherwise they
    // would be read from an emptied server as if no key existed.
    shared.check_identity()?;
    polled
}

/// How often to poll for the shortest maximum staleness of these settings.
pub(crate) fn poll_interval(
    of_host: Duration,
    defaults: &ComponentSettings,
    overrides: &HashMap<ComponentId, ComponentSettings>,
) -> Duration {
    let own = overrides.values().chain([defaults]).filter_map(|one| one.max_staleness);
    own.chain([of_host]).filter(|time| *time >= MIN_STALENESS).min().unwrap_or(MIN_STALENESS)
        / POLLS
}
