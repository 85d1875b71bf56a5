//! Writers that wait together are served together.
//!
//! A writer joins the queue. If nobody leads, it leads: it takes everybody who
//! waits, serves them in one go, hands each its answer, and makes the first of
//! those who came meanwhile the next leader. So while one group is on its way to
//! the disk the next one gathers, and sixteen writers cost little more than one.
//!
//! Those who were just answered often ask again at once. Without more ado the
//! first of them would go alone, and the others after it: half the groups would
//! be groups of one. So whoever leads next takes in as many as there were last
//! time, though it waits for them only a small part of the time that serving
//! those took.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many are served in one go, so that nobody waits for a very long one.
pub(super) const MAX_TOGETHER: usize = 256;

/// The part of the time that the last group took for which the next one is
/// waited for.
const PATIENCE: u32 = 4;

/// The longest and the shortest such wait: a shorter one is over before anybody
/// can come.
const MAX_PATIENCE: Duration = Duration::from_millis(1);
const MIN_PATIENCE: Duration = Duration::from_micros(20);

/// A queue of requests, each of which gets an answer.
#[derive(Debug)]
pub(super) struct Group<R, A> {
    queue: Mutex<Queue<R, A>>,
    /// Somebody has come, and the leader waits for that.
    joined: Condvar,
}

#[derive(Debug)]
struct Queue<R, A> {
    waiting: VecDeque<Arc<Place<R, A>>>,
    /// Whether somebody leads, or is being told to.
    led: bool,
    /// Whether the leader waits for more.
    waited_for: bool,
    last: Option<LastGroup>,
}

#[derive(Debug, Clone, Copy)]
struct LastGroup {
    size: usize,
    took: Duration,
    ended: Instant,
}

impl LastGroup {
    /// How long the next group is waited for.
    fn patience(&self) -> Duration {
        let patience = (self.took / PATIENCE).min(MAX_PATIENCE);
        // Whoever comes later is none of those who were just answered.
        let left = patience.saturating_sub(self.ended.elapsed());
        if left < MIN_PATIENCE { Duration::ZERO } else { left }
    }
}

/// A request's place in the queue.
#[derive(Debug)]
struct Place<R, A> {
    state: Mutex<PlaceState<R, A>>,
    changed: Condvar,
}

#[derive(Debug)]
enum PlaceState<R, A> {
    Waiting(R),
    Leading(R),
    /// The leader serves it.
    Taken,
    Answered(A),
    /// The answer was fetched.
    Done,
}

impl<R, A> Place<R, A> {
    fn state(&self) -> MutexGuard<'_, PlaceState<R, A>> {
        lock(&self.state)
    }

    fn answer(&self, answer: A) {
        *self.state() = PlaceState::Answered(answer);
        self.changed.notify_all();
    }

    /// Makes the one who waits here the leader.
    fn lead(&self) {
        let mut state = self.state();
        *state = match std::mem::replace(&mut *state, PlaceState::Done) {
            PlaceState::Waiting(request) => PlaceState::Leading(request),
            other => other,
        };
        self.changed.notify_all();
    }

    fn take(&self) -> Option<R> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, PlaceState::Taken) {
            PlaceState::Waiting(request) | PlaceState::Leading(request) => Some(request),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Waits for the answer; `None` for the turn to lead.
    fn wait(&self) -> Option<A> {
        let mut state = self.state();
        loop {
            match &*state {
                PlaceState::Leading(_) => return None,
                PlaceState::Answered(_) => {
                    return match std::mem::replace(&mut *state, PlaceState::Done) {
                        PlaceState::Answered(answer) => Some(answer),
                        _ => None,
                    };
                }
                _ => {}
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<R, A> Default for Group<R, A> {
    fn default() -> Self {
        let queue = Queue { waiting: VecDeque::new(), led: false, waited_for: false, last: None };
        Self { queue: Mutex::new(queue), joined: Condvar::new() }
    }
}

impl<R, A> Group<R, A> {
    /// Has the request served, in this thread or another one's.
    ///
    /// `serve` takes requests in the order in which they came, until there are no
    /// more, and answers them in that order; it runs in one thread at a time.
    /// `lost` is the answer for those that it leaves without one, by a panic too,
    /// which goes on in the thread that led.
    pub(super) fn submit(
        &self,
        request: R,
        serve: impl FnOnce(&mut Requests<'_, R, A>) -> Vec<A>,
        lost: impl Fn() -> A,
    ) -> A {
        let place = Arc::new(Place {
            state: Mutex::new(PlaceState::Waiting(request)),
            changed: Condvar::new(),
        });
        let mut queue = lock(&self.queue);
        let leads = !queue.led;
        queue.led = true;
        queue.waiting.push_back(Arc::clone(&place));
        if queue.waited_for {
            self.joined.notify_one();
        }
        drop(queue);
        if !leads && let Some(answer) = place.wait() {
            return answer;
        }
        self.lead(serve, &lost);
        // Whoever leads is the first in the queue, so the group had this one.
        place.wait().unwrap_or_else(lost)
    }

    fn lead(&self, serve: impl FnOnce(&mut Requests<'_, R, A>) -> Vec<A>, lost: &dyn Fn() -> A) {
        let mut queue = lock(&self.queue);
        let mut requests = Requests {
            group: self,
            lost,
            first: queue.waiting.pop_front(),
            places: Vec::new(),
            answered: 0,
            last: queue.last,
            began: Instant::now(),
        };
        drop(queue);
        for answer in serve(&mut requests) {
            requests.answer(answer);
        }
    }
}

/// The requests of a group. Dropped, it answers whoever has no answer, and makes
/// the first of those who wait the next leader, so on every way out.
pub(super) struct Requests<'a, R, A> {
    group: &'a Group<R, A>,
    lost: &'a dyn Fn() -> A,
    /// Whoever leads, until its request is taken.
    first: Option<Arc<Place<R, A>>>,
    /// Those whose requests were taken.
    places: Vec<Arc<Place<R, A>>>,
    /// How many of them have their answer.
    answered: usize,
    last: Option<LastGroup>,
    began: Instant,
}

impl<R, A> Requests<'_, R, A> {
    /// The next request. If there is none, it waits, though not for long, until
    /// as many have come as there were last time.
    pub(super) fn next(&mut self) -> Option<R> {
        let place = match self.first.take() {
            Some(first) => first,
            None => self.next_place()?,
        };
        let request = place.take();
        self.places.push(place);
        request
    }

    fn next_place(&self) -> Option<Arc<Place<R, A>>> {
        if self.places.len() >= MAX_TOGETHER {
            return None;
        }
        let mut queue = lock(&self.group.queue);
        if let Some(next) = queue.waiting.pop_front() {
            return Some(next);
        }
        let last = self.last.filter(|last| last.size > self.places.len())?;
        let patience = last.patience();
        if patience.is_zero() {
            return None;
        }
        queue.waited_for = true;
        let (mut queue, _) = self
            .group
            .joined
            .wait_timeout_while(queue, patience, |queue| queue.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        queue.waited_for = false;
        queue.waiting.pop_front()
    }

    /// Hands out the next answer.
    fn answer(&mut self, answer: A) {
        if let Some(place) = self.places.get(self.answered) {
            place.answer(answer);
            self.answered += 1;
        }
    }
}

impl<R, A> Drop for Requests<'_, R, A> {
    fn drop(&mut self) {
        self.places.extend(self.first.take());
        while self.answered < self.places.len() {
            self.answer((self.lost)());
        }
        let mut queue = lock(&self.group.queue);
        let ended = Instant::now();
        let size = self.places.len();
        queue.last = Some(LastGroup { size, took: ended - self.began, ended });
        match queue.waiting.front() {
            Some(next) => next.lead(),
            None => queue.led = false,
        }
    }
}

/// Locks; nothing panics with one of these locks held.
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
    fn everybody_gets_the_answer_to_the_own_request() {
        let group = Group::default();
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
        assert!(!queue.led && queue.waiting.is_empty());
    }

    /// Holds a leader up until so many others wait behind it.
    fn with_waiting<A: Send>(
        group: &Group<u32, A>,
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
                    // Its own alone: the others come later.
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
    fn those_who_wait_are_served_in_one_go() {
        let group = Group::default();
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
    fn a_leader_that_panics_loses_nobody() {
        let group = Group::default();
        let panics = |_: Vec<u32>| -> Vec<Option<u32>> { panic!("the leader") };
        let (leader, followers) = with_waiting(&group, 7, panics, panics, || None);
        assert!(leader.is_err());
        // The first of the others led, and panicked too; the rest were with it.
        assert_eq!(followers.iter().filter(|answer| answer.is_err()).count(), 1);
        assert_eq!(followers.iter().filter(|answer| matches!(answer, Ok(None))).count(), 6);
        let served =
            group.submit(4, |requests| all(requests).into_iter().map(Some).collect(), || None);
        assert_eq!(served, Some(4));
    }

    #[test]
    fn answers_that_are_missing_are_told_as_lost() {
        let group = Group::default();
        let first = |requests: Vec<u32>| requests.into_iter().map(Some).take(1).collect();
        let (_, followers) = with_waiting(&group, 5, first, first, || None);
        let lost = followers.into_iter().filter(|answer| matches!(answer, Ok(None))).count();
        assert_eq!(lost, 4);
    }
}
