//! Bounds the calls of a guest that are in progress at one time.

use std::sync::Arc;

use storage_core::StorageError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;

/// The most calls of an instance that may be in progress at one time. A call above it
/// fails at once; an open listing counts as a call.
pub const CONCURRENT_CALLS: usize = 64;

/// The calls of one instance that are in progress.
///
/// The host holds the arguments of a call until it has ended, and its result until the
/// guest gets it. Both are bounded, by the bytes of the largest legal call. A guest gets
/// an error for arguments above the bound, because they are copied before anything can
/// wait. A result waits until there is room for it.
#[derive(Debug)]
pub(in crate::guest) struct Calls {
    calls: Arc<Semaphore>,
    arguments: Arc<Semaphore>,
    results: Arc<Semaphore>,
    /// The most bytes of all arguments, and of all results.
    most: u32,
}

impl Calls {
    pub(in crate::guest) fn new(limits: &Limits) -> Self {
        let single = limits.key_bytes.saturating_add(limits.value_bytes);
        // A semaphore takes 32 bits at a time.
        let most = u32::try_from(limits.batch_bytes.max(single)).unwrap_or(u32::MAX);
        let bytes = || Arc::new(Semaphore::new(most as usize));
        Self {
            calls: Arc::new(Semaphore::new(CONCURRENT_CALLS)),
            arguments: bytes(),
            results: bytes(),
            most,
        }
    }

    /// Counts a call whose arguments have this many bytes. The call is in progress until
    /// the result is dropped.
    ///
    /// # Errors
    /// [`StorageError::LimitExceeded`].
    pub(super) fn begin(&self, arguments: usize) -> Result<InProgress, StorageError> {
        let call = Arc::clone(&self.calls).try_acquire_owned();
        let call = call.map_err(|_| StorageError::LimitExceeded {
            limit: "calls in progress",
            max: CONCURRENT_CALLS as u64,
            actual: CONCURRENT_CALLS as u64 + 1,
        })?;
        let bytes = self.at_most(arguments);
        let arguments = Arc::clone(&self.arguments).try_acquire_many_owned(bytes);
        let arguments = arguments.map_err(|_| StorageError::LimitExceeded {
            limit: "bytes of the calls in progress",
            max: u64::from(self.most),
            actual: self.arguments_in_progress().saturating_add(u64::from(bytes)),
        })?;
        Ok(InProgress { _call: call, _arguments: arguments, _result: None })
    }

    /// Where a call waits until there is room for its result.
    pub(super) fn room(&self, result: usize) -> Room {
        Room { results: Arc::clone(&self.results), bytes: self.at_most(result) }
    }

    fn at_most(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.most)
    }

    fn arguments_in_progress(&self) -> u64 {
        u64::from(self.most).saturating_sub(self.arguments.available_permits() as u64)
    }
}

/// A call that is in progress.
#[derive(Debug)]
pub(super) struct InProgress {
    _call: OwnedSemaphorePermit,
    _arguments: OwnedSemaphorePermit,
    _result: Option<OwnedSemaphorePermit>,
}

/// The bytes that a result may have, which must be free first.
#[derive(Debug)]
pub(super) struct Room {
    results: Arc<Semaphore>,
    bytes: u32,
}

impl Room {
    /// Waits until there is room, in the order of the calls.
    pub(super) async fn wait(self, mut call: InProgress) -> InProgress {
        if self.bytes > 0 {
            // Never closed.
            call._result = self.results.acquire_many_owned(self.bytes).await.ok();
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn calls() -> Calls {
        let limits = Limits { key_bytes: 4, value_bytes: 6, batch_bytes: 8, ..Limits::default() };
        Calls::new(&limits)
    }

    #[test]
    fn calls_above_the_limit_are_refused_until_one_has_ended() {
        let calls = calls();
        let mut begun: Vec<_> = (0..CONCURRENT_CALLS).map(|_| calls.begin(0).unwrap()).collect();
        let refused = StorageError::LimitExceeded {
            limit: "calls in progress",
            max: CONCURRENT_CALLS as u64,
            actual: CONCURRENT_CALLS as u64 + 1,
        };
        assert_eq!(calls.begin(0).unwrap_err(), refused);
        begun.pop();
        begun.push(calls.begin(0).unwrap());
        assert_eq!(calls.begin(0).unwrap_err(), refused);
    }

    #[test]
    fn arguments_of_all_calls_are_bounded() {
        let calls = calls();
        // The largest single write has 10 bytes, a batch 8.
        let first = calls.begin(7).unwrap();
        let refused = StorageError::LimitExceeded {
            limit: "bytes of the calls in progress",
            max: 10,
            actual: 11,
        };
        assert_eq!(calls.begin(4).unwrap_err(), refused);
        let second = calls.begin(3).unwrap();
        drop((first, second));
        // Alone, any call may begin: its own limit was checked before.
        let large = calls.begin(1_000).unwrap();
        assert!(calls.begin(1).is_err());
        drop(large);
        assert!(calls.begin(10).is_ok());
        // What was refused counts no longer.
        assert_eq!(calls.calls.available_permits(), CONCURRENT_CALLS);
    }

    #[test]
    fn results_wait_for_room() {
        let calls = calls();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut first = Box::pin(calls.room(6).wait(calls.begin(0).unwrap()));
        let Poll::Ready(first) = first.as_mut().poll(&mut context) else { panic!("no room") };
        let mut second = Box::pin(calls.room(6).wait(calls.begin(0).unwrap()));
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(second.as_mut().poll(&mut context).is_ready());
    }
}
