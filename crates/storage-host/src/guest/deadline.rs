//! Bounds the run time of guests.

use std::io;
use std::thread;
use std::time::Duration;

use wasmtime::{AsContextMut, Engine};

/// The length of an epoch with [`start_clock`].
pub const EPOCH: Duration = Duration::from_millis(10);

/// Starts a thread that increments the engine's epoch every [`EPOCH`], and ends with the
/// engine. Call it once per engine, which must have `epoch_interruption` enabled.
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

/// Sets the time after which the guest of a store is ended, counted from now. Call it
/// before each call into the guest, including the instantiation.
///
/// Calls to the host are not interrupted: the guest ends when they return.
///
/// For synchronous stores only. A guest of an asynchronous one would not end, and would not
/// yield to other tasks until then: use `tokio::time::timeout` there.
pub fn set_timeout(mut store: impl AsContextMut, timeout: Duration) {
    let epochs = timeout.as_nanos().div_ceil(EPOCH.as_nanos());
    // Part of the current epoch is already over.
    let epochs = u64::try_from(epochs).unwrap_or(u64::MAX).saturating_add(1);
    // wasmtime adds the current epoch, which must not overflow.
    store.as_context_mut().set_epoch_deadline(epochs.min(u64::MAX / 2));
}
