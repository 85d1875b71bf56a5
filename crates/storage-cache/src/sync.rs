//! What orders threads, and what is random.
//!
//! Here these are std's and quick_cache's. The crate `cache-models` compiles the
//! same sources with the cfg `shuttle`, and then they are shuttle's: its threads
//! change over where they use something of this module and nowhere else, in an
//! order that follows from a seed.

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

    /// Declares a static that all threads share.
    macro_rules! shared_static {
        ($(#[$about:meta])* static $name:ident: $type:ty = $value:expr;) => {
            $(#[$about])*
            static $name: $type = $value;
        };
    }
    pub(crate) use shared_static;

    /// Makes a call that may panic, and whose caller then has something to undo.
    ///
    /// The caller passes an error of this function on at once, with `?`. Here
    /// there is none: a panic unwinds through the caller.
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

    /// Which keys share a stripe must not differ when a seed is repeated.
    pub(crate) type DefaultHashBuilder = BuildHasherDefault<DefaultHasher>;

    /// shuttle has none. One of std would stop all of its threads, which are one
    /// thread to std, if they changed over during the initialisation.
    pub(crate) struct OnceLock<T> {
        filling: Mutex<()>,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { filling: Mutex::new(()), value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            self.value.get()
        }

        pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
            if let Some(value) = self.value.get() {
                return value;
            }
            let _one_at_a_time = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
            self.value.get_or_init(make)
        }
    }

    /// Anew in every execution, so that none sees what an earlier one left.
    macro_rules! shared_static {
        ($(#[$about:meta])* static $name:ident: $type:ty = $value:expr;) => {
            shuttle::lazy_static! {
                $(#[$about])*
                static ref $name: $type = $value;
            }
        };
    }
    pub(crate) use shared_static;

    /// A panic ends here, and the caller's early return drops what unwinding
    /// would drop, in the same order. Locks of shuttle that are released while a
    /// thread unwinds let nobody wait for them any more.
    pub(crate) fn unwinding<T>(call: impl FnOnce() -> T) -> Result<T, StorageError> {
        catch_unwind(AssertUnwindSafe(call))
            .map_err(|_| StorageError::IoError("the storage below panicked".into()))
    }
}
