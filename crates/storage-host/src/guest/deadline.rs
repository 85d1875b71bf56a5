//! How long a guest may run.

use std::io;
use std::thread;
use std::time::Duration;

use wasmtime::{AsContextMut, Engine};

/// How long an engine's epoch lasts once [`start_clock`] counts it.
pub const EPOCH: Duration = Duration::from_millis(10);

/// Lets the engine's epoch go on every [`EPOCH`], on a thread that ends with the
/// engine. Once for each engine, which must be made with `epoch_interruption`.
///
/// # Errors
/// If the thread cannot be started.
pub fn start_clock(engine: &Engine) -> io::Result<()> {
    let ticking = engine.weak();
    let tick = move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH);
        }
    };
    thread::Builder::new().name("guest-clock".to_owned()).spawn(tick).map(drop)
}

/// Ends the guest of a store once it has run for so long from now, and no sooner.
/// Before each call into it, the instantiation included.
///
/// It counts what the guest itself runs. A call to the host is not interrupted: the
/// guest ends when that returns.
pub fn set_timeout(mut store: impl AsContextMut, timeout: Duration) {
    let epochs = timeout.as_nanos().div_ceil(EPOCH.as_nanos());
    // Of the epoch that is under way, any part may be over.
    let epochs = u64::try_from(epochs).unwrap_or(u64::MAX).saturating_add(1);
    // The epoch and this are added.
    store.as_context_mut().set_epoch_deadline(epochs.min(u64::MAX / 2));
}
