//! A bounded pool of connections to one server, for threads that block.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, Value};

use super::connector::Connector;
use super::deployment::RedisAddress;
use super::error::{Failure, Problem};
use super::shard::Shard;
use super::transport::{Failed, Wire};

/// How long an idle connection is used again. A firewall may forget older ones.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// A server, and the connections to it.
pub(super) struct Node {
    pub(super) address: RedisAddress,
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// Signalled when a connection becomes idle or is closed.
    freed: Condvar,
}

#[derive(Default)]
struct State {
    /// The one that was used last is at the end.
    idle: Vec<Idle>,
    /// All connections: idle, in use, and those that are being opened.
    open: usize,
    /// How many threads wait for one.
    waiting: usize,
    /// Raised to close the connections that were opened before.
    generation: u64,
    /// A shard that the server has, if it has any.
    shard: Option<Shard>,
}

struct Idle {
    wire: Wire,
    since: Instant,
    generation: u64,
}

impl Node {
    pub(super) fn new(address: RedisAddress, connector: Arc<Connector>) -> Self {
        Self { address, connector, state: Mutex::default(), freed: Condvar::new() }
    }

    /// Sets a shard that the server has. New connections look for the store in it.
    pub(super) fn set_shard(&self, shard: Option<Shard>) {
        self.state().shard = shard;
    }

    /// Takes a connection for one call. `is_checked` says that the server must not have closed
    /// it, as far as that can be known.
    pub(super) fn lease(&self, deadline: Instant, is_checked: bool) -> Result<Lease<'_>, Failure> {
        let mut state = self.state();
        loop {
            while let Some(Idle { wire, since, generation }) = state.idle.pop() {
                let is_fresh = generation == state.generation && since.elapsed() < MAX_IDLE;
                if is_fresh {
                    drop(state);
                    if !(is_checked && wire.has_news()) {
                        return Ok(Lease::new(self, wire, generation));
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
                    Ok(wire) => return Ok(Lease::new(self, wire, generation)),
                    Err(problem) => {
                        self.put_back(None);
                        state = self.state();
                        // Another call's connection will become free.
                        if !problem.may_be_full() || state.open == 0 {
                            return Err(Failure::at(&self.address, problem));
                        }
                    }
                }
            }
            if !state.idle.is_empty() {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let limit = self.connector.total_timeout;
                return Err(Failure::at(&self.address, Problem::AllInUse(limit)));
            }
            state.waiting += 1;
            let waited = self.freed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
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
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.freed.notify_all();
        }
        drop(closed);
    }

    /// Makes a connection idle, or forgets one that was closed.
    fn put_back(&self, wire: Option<(Wire, u64)>) {
        let mut unused = None;
        let mut state = self.state();
        match wire {
            Some((wire, generation)) if generation == state.generation => {
                let now = Instant::now();
                let oldest = state.idle.first().map(|idle| now - idle.since);
                if oldest.is_some_and(|age| age > MAX_IDLE) {
                    state.open -= 1;
                    unused = Some(state.idle.remove(0));
                }
                state.idle.push(Idle { wire, since: now, generation });
            }
            _ => state.open -= 1,
        }
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.freed.notify_one();
        }
        drop(unused);
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

    /// Sends commands, and receives their replies.
    pub(super) fn call<'c>(
        &mut self,
        deadline: Instant,
        commands: impl Iterator<Item = &'c Cmd>,
    ) -> Result<Vec<Value>, Failed> {
        self.send(commands)?;
        self.receive(deadline).map_err(|problem| Failed { problem, was_sent: true })
    }

    /// Sends commands in one write.
    pub(super) fn send<'c>(
        &mut self,
        commands: impl Iterator<Item = &'c Cmd>,
    ) -> Result<(), Failed> {
        let Some(mut wire) = self.wire.take() else {
            return Err(Failed { problem: Problem::Lost(None), was_sent: false });
        };
        self.awaited = wire.send(commands)?;
        self.wire = Some(wire);
        Ok(())
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
