//! Waits for a future in a thread of the caller.
//!
//! A tokio runtime's own `block_on` panics inside of another runtime, and a caller may be in
//! one. These futures are woken by the store's runtime in its own thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

/// Wakes a waiting thread.
struct Unpark {
    thread: Thread,
    /// Whether the future must be polled. A thread may be unparked for other reasons.
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Runs a future to its end in this thread. Returns `None` and drops it if it is not ready at
/// the deadline.
pub(super) fn wait_until<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(true) });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        if unpark.woken.swap(false, Ordering::Acquire)
            && let Poll::Ready(output) = future.as_mut().poll(&mut context)
        {
            return Some(output);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        if !unpark.woken.load(Ordering::Acquire) {
            thread::park_timeout(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_future_is_woken_by_another_thread() {
        let (send, receive) = oneshot::channel();
        let sender = thread::spawn(move || send.send(7));
        assert_eq!(wait_until(soon(), receive), Some(Ok(7)));
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn a_future_that_is_never_ready_ends_at_the_deadline() {
        assert_eq!(wait_until(Instant::now(), std::future::pending::<()>()), None);
    }

    #[test]
    fn it_works_inside_of_a_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (send, receive) = oneshot::channel();
        send.send(7).unwrap();
        assert_eq!(runtime.block_on(async { wait_until(soon(), receive) }), Some(Ok(7)));
    }
}
