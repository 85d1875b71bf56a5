//! A queue whose waiting requests are served together.
//!
//! A writer joins the queue. If there is no leader, it becomes the leader: it serves all
//! waiting requests and hands out the outcomes. The first request that arrived in the
//! meantime becomes the next leader. So one group gathers while another is being written,
//! and sixteen writers cost little more than one.
//!
//! Writers often resubmit right after a commit, so the leader waits briefly for as many
//! writers as the last group had. Without this wait, every other group would be a single
//! request.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of requests in one group, which bounds how long a request waits.
pub(crate) const MAX_GROUP: usize = 256;

/// The leader waits for a group at most a quarter of the time that the last one took.
const WAIT_DIVISOR: u32 = 4;

/// The longest and the shortest wait. A shorter wait would end before a request can arrive.
const MAX_WAIT: Duration = Duration::from_millis(1);
const MIN_WAIT: Duration = Duration::from_micros(20);

/// A queue of requests `R`, each of which gets an outcome `A`.
#[derive(Debug)]
pub(crate) struct GroupCommit<R, A> {
    queue: Mutex<Queue<R, A>>,
    /// Signalled when a request arrives and the leader waits.
    joined: Condvar,
}

#[derive(Debug)]
struct Queue<R, A> {
    waiting: VecDeque<Arc<Ticket<R, A>>>,
    /// Whether there is a leader.
    has_leader: bool,
    leader_waits: bool,
    last: Option<LastGroup>,
}

#[derive(Debug, Clone, Copy)]
struct LastGroup {
    size: usize,
    took: Duration,
    ended: Instant,
}

impl LastGroup {
    /// How long the leader waits for the next request.
    fn wait(&self) -> Duration {
        let wait = (self.took / WAIT_DIVISOR).min(MAX_WAIT);
        // Later requests are not resubmissions.
        let left = wait.saturating_sub(self.ended.elapsed());
        if left < MIN_WAIT { Duration::ZERO } else { left }
    }
}

/// A request in the queue.
#[derive(Debug)]
struct Ticket<R, A> {
    state: Mutex<TicketState<R, A>>,
    changed: Condvar,
}

#[derive(Debug)]
enum TicketState<R, A> {
    Waiting(R),
    Leading(R),
    /// The leader serves it.
    Taken,
    Finished(A),
    /// The outcome was returned.
    Returned,
}

impl<R, A> Ticket<R, A> {
    fn state(&self) -> MutexGuard<'_, TicketState<R, A>> {
        lock(&self.state)
    }

    fn finish(&self, outcome: A) {
        *self.state() = TicketState::Finished(outcome);
        self.changed.notify_all();
    }

    /// Makes the waiting thread the leader.
    fn lead(&self) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, TicketState::Returned) {
            TicketState::Waiting(request) => TicketState::Leading(request),
            other => other,
        };
        self.changed.notify_all();
    }

    fn take(&self) -> Option<R> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, TicketState::Taken) {
            TicketState::Waiting(request) | TicketState::Leading(request) => Some(request),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Waits for the outcome; `None` if this thread becomes the leader.
    fn wait(&self) -> Option<A> {
        let mut state = self.state();
        loop {
            match &*state {
                TicketState::Leading(_) => return None,
                TicketState::Finished(_) => {
                    return match std::mem::replace(&mut *state, TicketState::Returned) {
                        TicketState::Finished(outcome) => Some(outcome),
                        _ => None,
                    };
                }
                _ => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<R, A> Default for GroupCommit<R, A> {
    fn default() -> Self {
        let queue =
            Queue { waiting: VecDeque::new(), has_leader: false, leader_waits: false, last: None };
        Self { queue: Mutex::new(queue), joined: Condvar::new() }
    }
}

impl<R, A> GroupCommit<R, A> {
    /// Serves the request, in this thread or another one.
    ///
    /// `serve` takes requests in the order of their arrival until there are no more, and
    /// returns their outcomes in that order. It runs in one thread at a time. A request
    /// that it leaves without an outcome, for example by a panic, gets `lost`. A panic continues
    /// in the leader's thread.
    pub(crate) fn submit(
        &self,
        request: R,
        serve: impl FnOnce(&mut Requests<'_, R, A>) -> Vec<A>,
        lost: impl Fn() -> A,
    ) -> A {
        let ticket = Arc::new(Ticket {
            state: Mutex::new(TicketState::Waiting(request)),
            changed: Condvar::new(),
        });
        let mut queue = lock(&self.queue);
        let leads = !queue.has_leader;
        queue.has_leader = true;
        queue.waiting.push_back(Arc::clone(&ticket));
        if queue.leader_waits {
            self.joined.notify_one();
        }
        drop(queue);
        if !leads && let Some(outcome) = ticket.wait() {
            return outcome;
        }
        self.lead(serve, &lost);
        // The leader is the first in the queue, so its group contained this request.
        ticket.wait().unwrap_or_else(lost)
    }

    fn lead(&self, serve: impl FnOnce(&mut Requests<'_, R, A>) -> Vec<A>, lost: &dyn Fn() -> A) {
        let mut queue = lock(&self.queue);
        let mut requests = Requests {
            group: self,
            lost,
            first: queue.waiting.pop_front(),
            tickets: Vec::new(),
            finished: 0,
            last: queue.last,
            began: Instant::now(),
        };
        drop(queue);
        for outcome in serve(&mut requests) {
            requests.finish(outcome);
        }
    }
}

/// The requests of a group. Dropping it finishes requests without an outcome and
/// appoints the next leader, on every way out.
pub(crate) struct Requests<'a, R, A> {
    group: &'a GroupCommit<R, A>,
    lost: &'a dyn Fn() -> A,
    /// The leader's ticket, until its request is taken.
    first: Option<Arc<Ticket<R, A>>>,
    /// The tickets whose requests were taken.
    tickets: Vec<Arc<Ticket<R, A>>>,
    /// How many of them have an outcome.
    finished: usize,
    last: Option<LastGroup>,
    began: Instant,
}

impl<R, A> Requests<'_, R, A> {
    /// The next request. If there is none, waits briefly until the group is as large as
    /// the last one.
    pub(crate) fn next(&mut self) -> Option<R> {
        let ticket = match self.first.take() {
            Some(first) => first,
            None => self.next_ticket()?,
        };
        let request = ticket.take();
        self.tickets.push(ticket);
        request
    }

    fn next_ticket(&self) -> Option<Arc<Ticket<R, A>>> {
        if self.tickets.len() >= MAX_GROUP {
            return None;
        }
        let mut queue = lock(&self.group.queue);
        if let Some(next) = queue.waiting.pop_front() {
            return Some(next);
        }
        let last = self.last.filter(|last| last.size > self.tickets.len())?;
        let wait = last.wait();
        if wait.is_zero() {
            return None;
        }
        queue.leader_waits = true;
        let (mut queue, _) = self
            .group
            .joined
            .wait_timeout_while(queue, wait, |queue| queue.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        queue.leader_waits = false;
        queue.waiting.pop_front()
    }

    /// Hands out the next outcome.
    fn finish(&mut self, outcome: A) {
        if let Some(ticket) = self.tickets.get(self.finished) {
            ticket.finish(outcome);
            self.finished += 1;
        }
    }
}

impl<R, A> Drop for Requests<'_, R, A> {
    fn drop(&mut self) {
        self.tickets.extend(self.first.take());
        while self.finished < self.tickets.len() {
            self.finish((self.lost)());
        }
        let mut queue = lock(&self.group.queue);
        let ended = Instant::now();
        let size = self.tickets.len();
        queue.last = Some(LastGroup { size, took: ended - self.began, ended });
        match queue.waiting.front() {
            Some(next) => next.lead(),
            None => queue.has_leader = false,
        }
    }
}

/// Ignores poisoning: no code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    type Taken<'a, 'b, A> = &'a mut Requests<'b, u32, A>;

    fn all<A>(requests: Taken<'_, '_, A>) -> Vec<u32> {
        std::iter::from_fn(|| requests.next()).collect()
    }

    fn doubled(requests: Vec<u32>) -> Vec<u32> {
        requests.into_iter().map(|request| request * 2).collect()
    }

    #[test]
    fn every_request_gets_its_own_outcome() {
        let group = GroupCommit::default();
        let groups = AtomicUsize::new(0);
        thread::scope(|scope| {
            for n in 0..16 {
                let (group, groups) = (&group, &groups);
                scope.spawn(move || {
                    for round in 0..500 {
                        let request = n * 1000 + round;
                        let serve = |requests: Taken<'_, '_, u32>| {
                            groups.fetch_add(1, Ordering::Relaxed);
                            doubled(all(requests))
                        };
                        assert_eq!(group.submit(request, serve, || 0), request * 2);
                    }
                });
            }
        });
        assert!(groups.into_inner() <= 16 * 500);
        let queue = group.queue.lock().unwrap();
        assert!(!queue.has_leader && queue.waiting.is_empty());
    }

    /// Blocks a leader until this many other requests wait.
    fn with_waiting<A: Send>(
        group: &GroupCommit<u32, A>,
        waiting: usize,
        lead: impl Fn(Vec<u32>) -> Vec<A> + Send + Sync,
        follow: impl Fn(Vec<u32>) -> Vec<A> + Send + Sync,
        lost: impl Fn() -> A + Send + Sync,
    ) -> (thread::Result<A>, Vec<thread::Result<A>>) {
        let (begun, begins) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let (lead, lost, follow) = (&lead, &lost, &follow);
            let leader = scope.spawn(move || {
                let serve = |requests: Taken<'_, '_, A>| {
                    // Only its own request: the others come later.
                    let own = requests.next().unwrap();
                    begun.send(()).unwrap();
                    released.recv().unwrap();
                    lead(vec![own])
                };
                group.submit(0, serve, lost)
            });
            begins.recv().unwrap();
            let followers: Vec<_> = (1..=waiting as u32)
                .map(|n| {
                    let serve = |requests: Taken<'_, '_, A>| follow(all(requests));
                    scope.spawn(move || group.submit(n, serve, lost))
                })
                .collect();
            while lock(&group.queue).waiting.len() < waiting {
                thread::yield_now();
            }
            release.send(()).unwrap();
            (leader.join(), followers.into_iter().map(|follower| follower.join()).collect())
        })
    }

    #[test]
    fn waiting_requests_are_served_together() {
        let group = GroupCommit::default();
        let sizes = Mutex::new(Vec::new());
        let count = |requests: Vec<u32>| {
            sizes.lock().unwrap().push(requests.len());
            doubled(requests)
        };
        let (leader, followers) = with_waiting(&group, 15, count, count, || 0);
        assert_eq!(leader.unwrap(), 0);
        let answers: Vec<u32> = followers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, (1..=15).map(|n| n * 2).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().unwrap(), [1, 15]);
    }

    #[test]
    fn a_panicking_leader_leaves_no_request_waiting() {
        let group = GroupCommit::default();
        let panics = |_: Vec<u32>| -> Vec<Option<u32>> { panic!("the leader") };
        let (leader, followers) = with_waiting(&group, 7, panics, panics, || None);
        assert!(leader.is_err());
        // The first follower led the second group, which panicked too.
        assert_eq!(followers.iter().filter(|answer| answer.is_err()).count(), 1);
        assert_eq!(followers.iter().filter(|answer| matches!(answer, Ok(None))).count(), 6);
        let served =
            group.submit(4, |requests| all(requests).into_iter().map(Some).collect(), || None);
        assert_eq!(served, Some(4));
    }

    #[test]
    fn a_request_without_an_outcome_is_lost() {
        let group = GroupCommit::default();
        let first = |requests: Vec<u32>| requests.into_iter().map(Some).take(1).collect();
        let (_, followers) = with_waiting(&group, 5, first, first, || None);
        let lost = followers.into_iter().filter(|answer| matches!(answer, Ok(None))).count();
        assert_eq!(lost, 4);
    }
}
