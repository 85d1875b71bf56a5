//! A bounded pool of connections to one server, for threads that block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::batch::Batch;
use super::connector::Connector;
use super::deployment::RedisAddress;
use super::error::{Failure, Problem};
use super::shard::Shard;
use super::transport::{Failed, Wire};
use super::turn::{Granted, Queued, Request, Submission, Turn};

/// How long an idle connection is used again. A firewall may forget older ones.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// What is sent together at most, unless a single request is longer.
const MAX_REQUESTS: usize = 64;
const MAX_BYTES: usize = 256 * 1024;

/// How long a connection may be idle until the server must be confirmed as the primary again.
const CONFIRMED: Duration = Duration::from_secs(1);

/// A server, and the connections to it.
pub(super) struct Node {
    pub(super) address: RedisAddress,
    connector: Arc<Connector>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one that was used last is at the end.
    idle: Vec<Idle>,
    /// All connections: idle, in use, and those that are being opened.
    open: usize,
    /// The callers that wait for one.
    waiting: VecDeque<Queued>,
    /// Raised to close the connections that were opened before.
    generation: u64,
    /// A shard that the server has, if it has any.
    shard: Option<Shard>,
}

impl State {
    /// Lets a caller that waits open a connection.
    fn wake_one(&mut self) {
        while let Some(Queued { waiter, .. }) = self.waiting.pop_front() {
            if waiter.end(Turn::Retry) {
                break;
            }
        }
    }

    /// Makes a connection idle. Returns one that was idle for too long.
    fn make_idle(&mut self, wire: Wire, generation: u64) -> Option<Idle> {
        let now = Instant::now();
        let oldest = self.idle.first().map(|idle| now - idle.since);
        let unused = oldest.is_some_and(|age| age > MAX_IDLE).then(|| {
            self.open -= 1;
            self.idle.remove(0)
        });
        self.idle.push(Idle { wire, since: now, generation });
        unused
    }

    /// Takes the callers behind the first whose requests are sent with its request.
    fn take_behind(&mut self, first: &Queued) -> Vec<Queued> {
        let mut behind = Vec::new();
        let Some(mut bytes) = first.bytes else { return behind };
        while let Some(next) = self.waiting.front()
            && let Some(more) = next.bytes
        {
            bytes += more;
            // A read does not wait for replicas because of a write behind it.
            let fits = bytes <= MAX_BYTES && (first.wait.is_some() || next.wait.is_none());
            if !fits || behind.len() + 1 == MAX_REQUESTS {
                break;
            }
            behind.extend(self.waiting.pop_front());
        }
        behind
    }
}

struct Idle {
    wire: Wire,
    since: Instant,
    generation: u64,
}

/// How a call reaches the server.
pub(super) enum Access<'n> {
    /// With a connection, to send the caller's request and those of others.
    Lease(Lease<'n>, Option<Request>, Vec<Submission>),
    /// Another caller has sent the request.
    Answered(Result<Vec<Value>, Failed>),
}

impl Node {
    pub(super) fn new(address: RedisAddress, connector: Arc<Connector>) -> Self {
        Self { address, connector, state: Mutex::default() }
    }

    /// Sets a shard that the server has. New connections look for the store in it.
    pub(super) fn set_shard(&self, shard: Option<Shard>) {
        self.state().shard = shard;
    }

    /// Takes a connection for one call, which needs it alone. `confirm` is that of
    /// [`access`](Self::access).
    pub(super) fn lease(
        &self,
        deadline: Instant,
        confirm: &dyn Fn(Instant) -> Result<(), Failure>,
    ) -> Result<Lease<'_>, Failure> {
        match self.access(deadline, false, None, confirm)? {
            Access::Lease(lease, ..) => Ok(lease),
            Access::Answered(_) => Err(Failure::at(&self.address, Problem::Lost(None))),
        }
    }

    /// Takes a connection for one call, or has its request sent with others if all are in use. A
    /// call without a request needs a connection alone. `is_checked` says that the server must not
    /// have closed it, as far as that can be known. `confirm` is called for a new connection, and
    /// for one that was idle for long, with the time since when the server may have been replaced.
    pub(super) fn access(
        &self,
        deadline: Instant,
        is_checked: bool,
        mut own: Option<Request>,
        confirm: &dyn Fn(Instant) -> Result<(), Failure>,
    ) -> Result<Access<'_>, Failure> {
        let mut state = self.state();
        loop {
            while let Some(Idle { wire, since, generation }) = state.idle.pop() {
                let is_fresh = generation == state.generation && since.elapsed() < MAX_IDLE;
                if is_fresh {
                    drop(state);
                    if !(is_checked && wire.has_news()) {
                        let lease = Lease::new(self, wire, generation);
                        if since.elapsed() > CONFIRMED {
                            confirm(Instant::now().checked_sub(CONFIRMED).unwrap_or(since))?;
                        }
                        return Ok(Access::Lease(lease, own, Vec::new()));
                    }
                    state = self.state();
                }
                state.open -= 1;
            }
            if state.open < self.connector.pool_size {
                state.open += 1;
                let (generation, shard) = (state.generation, state.shard);
                drop(state);
                match self.connector.open(&self.address, shard, deadline) {
                    Ok(wire) => {
                        let lease = Lease::new(self, wire, generation);
                        // A server that hung may have been replaced while it was connected to.
                        confirm(Instant::now())?;
                        return Ok(Access::Lease(lease, own, Vec::new()));
                    }
                    Err(problem) => {
                        state = self.state();
                        state.open -= 1;
                        // Another call's connection will become free. Until then, those who wait
                        // would not be accepted either.
                        if !problem.may_be_full() || state.open == 0 {
                            state.wake_one();
                            return Err(Failure::at(&self.address, problem));
                        }
                    }
                }
            }
            if !state.idle.is_empty() {
                continue;
            }
            let queued = Queued::new(own.take(), deadline);
            let waiter = Arc::clone(&queued.waiter);
            state.waiting.push_back(queued);
            drop(state);
            let began = Instant::now();
            match waiter.wait(self.connector.reply_timeout) {
                Turn::Granted(Granted { wire, generation, own, others }) => {
                    let lease = Lease::new(self, wire, generation);
                    if began.elapsed() > CONFIRMED
                        && let Err(failure) = confirm(began)
                    {
                        others.into_iter().for_each(|other| other.fail(&Problem::IsReplica));
                        return Err(failure);
                    }
                    return Ok(Access::Lease(lease, own, others));
                }
                Turn::Answered(result) => return Ok(Access::Answered(result)),
                Turn::Late => {
                    let limit = self.connector.total_timeout;
                    return Err(Failure::at(&self.address, Problem::AllInUse(limit)));
                }
                Turn::Retry(request) => {
                    own = request;
                    state = self.state();
                }
            }
        }
    }

    /// Closes all connections: those in use after their call.
    pub(super) fn close_all(&self) {
        let generation = self.state().generation;
        self.close(generation);
    }

    /// Closes the connections of a generation, unless that was done.
    fn close(&self, generation: u64) {
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        state.generation += 1;
        state.open -= state.idle.len();
        let closed = std::mem::take(&mut state.idle);
        // Those who wait may open connections now.
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for Queued { waiter, .. } in waiting {
            waiter.end(Turn::Retry);
        }
        drop(closed);
    }

    /// Passes a connection on or makes it idle, or forgets one that was closed.
    fn put_back(&self, wire: Option<(Wire, u64)>) {
        let Some((mut wire, generation)) = wire else { return self.forget(self.state()) };
        loop {
            let mut state = self.state();
            if generation != state.generation {
                return self.forget(state);
            }
            let Some(next) = state.waiting.pop_front() else {
                let unused = state.make_idle(wire, generation);
                drop(state);
                drop(unused);
                return;
            };
            // A caller with little time would end the requests of others early.
            let enough = (self.connector.reply_timeout + next.wait.unwrap_or_default())
                .min(self.connector.total_timeout / 2);
            let left = next.waiter.deadline.saturating_duration_since(Instant::now());
            let behind = if left < enough { Vec::new() } else { state.take_behind(&next) };
            // Without the lock, because it takes long to wake a thread.
            drop(state);
            match next.grant(wire, generation, &behind) {
                None => return,
                Some(rejected) => wire = rejected,
            }
            let mut state = self.state();
            behind.into_iter().rev().for_each(|queued| state.waiting.push_front(queued));
        }
    }

    /// Forgets a connection that was closed.
    fn forget(&self, mut state: MutexGuard<'_, State>) {
        state.open -= 1;
        state.wake_one();
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in use. Returned to the pool when it is dropped, unless a request failed or
/// has not ended.
pub(super) struct Lease<'n> {
    node: &'n Node,
    wire: Option<Wire>,
    generation: u64,
    /// How many replies are to come.
    awaited: usize,
}

impl<'n> Lease<'n> {
    fn new(node: &'n Node, wire: Wire, generation: u64) -> Self {
        Self { node, wire: Some(wire), generation, awaited: 0 }
    }

    /// Sends a request with those of others in one write, and gives each its replies. Only a
    /// request that waits for replicas may have others behind it that do.
    pub(super) fn call(
        &mut self,
        deadline: Instant,
        own: Request,
        others: Vec<Submission>,
    ) -> Result<Vec<Value>, Failed> {
        let (own, waiter) = Submission::own(own);
        let batch = Batch::new(own, others);
        let sent = match &mut self.wire {
            Some(wire) => wire.send_packed(deadline, &batch.packed()),
            None => Err(Failed { problem: Problem::Lost(None), was_sent: false }),
        };
        match sent {
            Ok(()) => batch.deliver(|count| {
                self.awaited = count;
                self.receive(deadline)
            }),
            Err(failed) => {
                self.wire = None;
                batch.fail(&failed.problem, failed.was_sent);
            }
        }
        waiter.result(self.node.connector.reply_timeout)
    }

    /// Sends commands in one write.
    pub(super) fn send<'c>(
        &mut self,
        deadline: Instant,
        commands: impl Iterator<Item = &'c Cmd>,
    ) -> Result<(), Failed> {
        let Some(mut wire) = self.wire.take() else {
            return Err(Failed { problem: Problem::Lost(None), was_sent: false });
        };
        self.awaited = wire.send(deadline, commands)?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Waits this long for a reply to what was sent, and leaves it there. Also returns `true` if
    /// the connection has ended.
    pub(super) fn has_reply_within(&mut self, limit: Duration) -> bool {
        self.wire.as_mut().is_none_or(|wire| wire.has_news_within(limit))
    }

    /// Receives the replies to what was sent.
    pub(super) fn receive(&mut self, deadline: Instant) -> Result<Vec<Value>, Problem> {
        let wire = self.wire.as_mut().ok_or(Problem::Lost(None))?;
        let replies = wire.receive(deadline, self.awaited)?;
        self.awaited = 0;
        Ok(replies)
    }

    /// Closes this connection and those that were opened before it.
    pub(super) fn close_older(&mut self) {
        self.wire = None;
        self.node.close(self.generation);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let wire = self.wire.take().filter(|_| self.awaited == 0);
        self.node.put_back(wire.map(|wire| (wire, self.generation)));
    }
}
