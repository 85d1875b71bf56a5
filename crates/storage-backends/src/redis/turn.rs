//! How callers wait for a connection when all are in use.
//!
//! A connection that becomes free goes to the caller that has waited longest. That caller also
//! sends the requests of those behind it, in one write, and gives them their replies. So under
//! load a round trip carries many requests, and the system calls of client and server are shared.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::error::Problem;
use super::part::Part;
use super::transport::{Failed, Wire};
use super::wait::Wait;

/// What a caller sends.
pub(super) struct Request {
    pub(super) body: Body,
    /// How it waits for replicas, which is sent after the last of the requests that are sent
    /// together: each by itself would keep those behind it waiting.
    pub(super) wait: Option<Arc<Wait>>,
}

pub(super) enum Body {
    /// Commands in the form in which they are sent.
    Packed { bytes: Vec<u8>, replies: usize },
    /// A part of a run of a script.
    Part(Arc<Part>),
}

impl Request {
    pub(super) fn new<'c>(
        commands: impl Iterator<Item = &'c Cmd>,
        wait: Option<&Arc<Wait>>,
    ) -> Self {
        let (mut bytes, mut replies) = (Vec::new(), 0);
        for command in commands {
            command.write_packed_command(&mut bytes);
            replies += 1;
        }
        Self { body: Body::Packed { bytes, replies }, wait: wait.cloned() }
    }

    pub(super) fn part(part: &Arc<Part>, wait: Option<&Arc<Wait>>) -> Self {
        Self { body: Body::Part(Arc::clone(part)), wait: wait.cloned() }
    }

    /// About how many bytes are sent.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Packed { bytes, .. } => bytes.len(),
            Body::Part(part) => part.len(),
        }
    }
}

/// A caller in the queue for a connection.
pub(super) struct Queued {
    pub(super) waiter: Arc<Waiter>,
    /// How many bytes its request has. Without a request, it needs the connection alone.
    pub(super) bytes: Option<usize>,
    /// How long it waits for replicas, if it does.
    pub(super) wait: Option<Duration>,
}

impl Queued {
    pub(super) fn new(request: Option<Request>, deadline: Instant) -> Self {
        let bytes = request.as_ref().map(Request::len);
        let wait = request.as_ref().and_then(|request| request.wait.as_ref()).map(|w| w.limit);
        Self { waiter: Arc::new(Waiter::new(request, deadline)), bytes, wait }
    }

    /// Gives the caller a connection, with the requests of those `behind` it. Returns the
    /// connection, and leaves those, if the caller has given up.
    pub(super) fn grant(&self, wire: Wire, generation: u64, behind: &[Self]) -> Option<Wire> {
        let mut wire = Some(wire);
        self.waiter.end(|own| {
            // It is there, because this runs once.
            let Some(wire) = wire.take() else { return Turn::Retry(own) };
            let others = behind.iter().filter_map(|queued| queued.waiter.take()).collect();
            Turn::Granted(Granted { wire, generation, own, others })
        });
        wire
    }
}

/// A caller that waits.
pub(super) struct Waiter {
    state: Mutex<Waiting>,
    changed: Condvar,
    /// When the caller gives up.
    pub(super) deadline: Instant,
}

enum Waiting {
    /// For a connection. Without a request, the caller needs it alone.
    Queued(Option<Request>),
    /// For the replies to a request that another caller has.
    Taken,
    Ended(Turn),
    GaveUp,
}

/// How the wait of a caller ends.
pub(super) enum Turn {
    /// It may look for a connection, or open one.
    Retry(Option<Request>),
    /// It may use a connection.
    Granted(Granted),
    /// Another caller has sent its request.
    Answered(Result<Vec<Value>, Failed>),
    /// It has waited until its deadline, and nothing was sent.
    Late,
}

/// A connection, and the requests that are sent with it.
pub(super) struct Granted {
    pub(super) wire: Wire,
    pub(super) generation: u64,
    /// That of the caller itself, unless it needs the connection alone.
    pub(super) own: Option<Request>,
    pub(super) others: Vec<Submission>,
}

/// A request that a caller submitted to the one that sends it.
pub(super) struct Submission {
    waiter: Arc<Waiter>,
    pub(super) request: Request,
    pub(super) was_sent: bool,
}

impl Waiter {
    fn new(request: Option<Request>, deadline: Instant) -> Self {
        Self { state: Mutex::new(Waiting::Queued(request)), changed: Condvar::new(), deadline }
    }

    /// Waits. `limit` is the time that a reply may take.
    pub(super) fn wait(&self, limit: Duration) -> Turn {
        let mut state = self.lock();
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match mem::replace(&mut *state, Waiting::GaveUp) {
                Waiting::Ended(turn) => return turn,
                Waiting::Taken if left.is_zero() => {
                    let failed = Failed { problem: Problem::NoReply(limit), was_sent: true };
                    return Turn::Answered(Err(failed));
                }
                Waiting::Queued(_) | Waiting::GaveUp if left.is_zero() => return Turn::Late,
                waiting => *state = waiting,
            }
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The result of a request that was answered or has failed.
    pub(super) fn result(&self, limit: Duration) -> Result<Vec<Value>, Failed> {
        match self.wait(limit) {
            Turn::Answered(result) => result,
            _ => Err(Failed { problem: Problem::Lost(None), was_sent: true }),
        }
    }

    /// Ends the wait for a connection. Returns `false`, without calling `turn`, if the caller
    /// has given up.
    pub(super) fn end(&self, turn: impl FnOnce(Option<Request>) -> Turn) -> bool {
        let mut state = self.lock();
        match mem::replace(&mut *state, Waiting::GaveUp) {
            Waiting::Queued(own) => {
                *state = Waiting::Ended(turn(own));
                drop(state);
                self.changed.notify_one();
                true
            }
            _ => false,
        }
    }

    /// Takes the request, if the caller has one and has not given up.
    fn take(self: &Arc<Self>) -> Option<Submission> {
        let mut state = self.lock();
        match mem::replace(&mut *state, Waiting::GaveUp) {
            Waiting::Queued(Some(request)) => {
                *state = Waiting::Taken;
                Some(Submission::new(self, request))
            }
            other => {
                *state = other;
                None
            }
        }
    }

    fn answer(&self, result: Result<Vec<Value>, Failed>) {
        let mut state = self.lock();
        if matches!(*state, Waiting::Taken) {
            *state = Waiting::Ended(Turn::Answered(result));
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Submission {
    fn new(waiter: &Arc<Waiter>, request: Request) -> Self {
        Self { waiter: Arc::clone(waiter), request, was_sent: false }
    }

    /// The request of the caller that sends.
    pub(super) fn own(request: Request) -> (Self, Arc<Waiter>) {
        let waiter = Arc::new(Waiter {
            state: Mutex::new(Waiting::Taken),
            changed: Condvar::new(),
            deadline: Instant::now(),
        });
        (Self::new(&waiter, request), waiter)
    }

    /// The request as a part of a run, if it is one.
    pub(super) fn part(&self) -> Option<&Part> {
        match &self.request.body {
            Body::Part(part) => Some(part),
            Body::Packed { .. } => None,
        }
    }

    /// Gives the caller its replies.
    pub(super) fn answer(self, replies: Vec<Value>) {
        self.waiter.answer(Ok(replies));
    }

    /// Tells the caller that its request failed, perhaps as one that it was sent with.
    pub(super) fn fail(self, problem: &Problem) {
        let problem = problem.of_connection();
        self.waiter.answer(Err(Failed { problem, was_sent: self.was_sent }));
    }
}

impl Drop for Submission {
    /// No caller waits for a reply that will not come. Has no effect after an answer.
    fn drop(&mut self) {
        let (problem, was_sent) = (Problem::Lost(None), self.was_sent);
        self.waiter.answer(Err(Failed { problem, was_sent }));
    }
}
