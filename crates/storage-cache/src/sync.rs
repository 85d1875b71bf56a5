//! Locks, atomics, thread-locals and hashers.
//!
//! Under `--cfg shuttle` they are shuttle's, whose threads switch only where they use one
//! of these. The cache must use no others.

#[cfg(shuttle)]
pub(crate) use modelled::*;
#[cfg(not(shuttle))]
pub(crate) use real::*;

#[cfg(not(shuttle))]
mod real {
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, atomic};
    pub(crate) use std::thread_local;

    pub(crate) use quick_cache::DefaultHashBuilder;
    use storage_core::StorageError;

    macro_rules! shared_static {
        ($(#[$about:meta])* static $name:ident: $type:ty = $value:expr;) => {
            $(#[$about])*
            static $name: $type = $value;
        };
    }
    pub(crate) use shared_static;

    /// Makes a call that may panic. Under shuttle a panic becomes an error, which the
    /// caller must return with `?`. Here there is no such error: a panic unwinds through
    /// the caller.
    #[inline]
    pub(crate) fn unwinding<T>(call: impl FnOnce() -> T) -> Result<T, StorageError> {
        Ok(call())
    }
}

#[cfg(shuttle)]
mod modelled {
    use std::hash::{BuildHasherDefault, DefaultHasher};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, atomic};
    pub(crate) use shuttle::thread_local;
    use storage_core::StorageError;

    /// The same in every execution, so that a seed repeats which keys share a lock.
    pub(crate) type DefaultHashBuilder = BuildHasherDefault<DefaultHasher>;

    /// shuttle has none. std's would block all of shuttle's threads, which are one
    /// thread of the system.
    pub(crate) struct OnceLock<T> {
        initialising: Mutex<()>,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { initialising: Mutex::new(()), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.value.get()
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.value.get() {
                return value;
            }
            let _guard = self.initialising.lock().unwrap_or_else(PoisonError::into_inner);
            self.value.get_or_init(make)
        }
    }

    /// A new one in each execution.
    macro_rules! shared_static {
        ($(#[$about:meta])* static $name:ident: $type:ty = $value:expr;) => {
            shuttle::lazy_static! {
                $(#[$about])*
                static ref $name: $type = $value;
            }
        };
    }
    pub(crate) use shared_static;

    /// Turns a panic into an error, because shuttle's locks fail when a thread that
    /// unwinds releases them. The caller's early return drops what unwinding would.
    pub(crate) fn unwinding<T>(call: impl FnOnce() -> T) -> Result<T, StorageError> {
        catch_unwind(AssertUnwindSafe(call))
            .map_err(|_| StorageError::IoError("the storage below panicked".into()))
    }
}
