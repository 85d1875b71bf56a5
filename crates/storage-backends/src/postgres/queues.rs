//! A queue of commits for each component.
//!
//! Commits to one component wait for each other in the server, because each locks the
//! component's row until it is durable. So those that wait in this host at the same time are
//! sent as one request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::group_commit::{GroupCommit, Requests};

/// How many queues are kept. Those without a commit are removed beyond that.
const KEPT: usize = 1024;

/// Queues by component prefix.
pub(super) struct Queues<R, A>(Mutex<HashMap<String, Arc<GroupCommit<R, A>>>>);

impl<R, A> Queues<R, A> {
    /// As [`GroupCommit::submit`] of the component's queue.
    pub(super) fn submit(
        &self,
        prefix: &str,
        request: R,
        serve: impl FnOnce(&mut Requests<'_, R, A>) -> Vec<A>,
        lost: impl Fn() -> A,
    ) -> A {
        self.queue(prefix).submit(request, serve, lost)
    }

    fn queue(&self, prefix: &str) -> Arc<GroupCommit<R, A>> {
        // No code panics while it holds the lock.
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(prefix) {
            return Arc::clone(queue);
        }
        if queues.len() >= KEPT {
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        Arc::clone(queues.entry(prefix.to_owned()).or_default())
    }
}

impl<R, A> Default for Queues<R, A> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R, A> fmt::Debug for Queues<R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_queues_are_removed() {
        let queues: Queues<(), ()> = Queues::default();
        let used = queues.queue("used");
        for n in 0..2 * KEPT {
            queues.queue(&n.to_string());
        }
        assert!(Arc::ptr_eq(&used, &queues.queue("used")));
        assert!(queues.0.lock().unwrap().len() <= KEPT);
    }
}
