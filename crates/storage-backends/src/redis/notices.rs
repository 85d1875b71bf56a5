//! Notices: hearing of the commits of other hosts.
//!
//! A commit publishes its own notice. A thread listens with connections of its own: one, or
//! one to each master of a cluster whose shards have channels of their own. Whenever one of
//! them ends, the thread finds the servers again and connects to all. Notices of that time are
//! lost: what they announce is found in the store.

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};

use super::client::Client;
use super::deployment::RedisAddress;
use super::error::Problem;
use super::inquiry::text;
use super::keys::StoreCheck;
use super::pool::Node;
use super::shard::Shard;
use super::transport::Wire;
use crate::changes::Changes;

/// How long a connection may be silent before the server is asked for a sign of life, and how
/// often sentinels are asked for the primary. A connection that is silent for twice as long is
/// closed.
const SILENCE: Duration = Duration::from_secs(5);

/// How long to wait before connecting again; doubled after each failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long a thread that is connecting may go on when the store is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The thread that listens, once it is needed.
#[derive(Debug, Default)]
pub(super) struct Notices {
    running: OnceLock<Arc<Control>>,
}

impl Notices {
    /// Begins to listen, and does so again whenever a connection was lost.
    pub(super) fn listen(&self, client: &Arc<Client>, changes: &Arc<Changes>, check: StoreCheck) {
        self.running.get_or_init(|| {
            let control = Arc::new(Control::default());
            let listener = Listener {
                client: Arc::clone(client),
                changes: Arc::clone(changes),
                check,
                control: Arc::clone(&control),
            };
            let run = move || {
                listener.run();
                listener.control.end();
            };
            if thread::Builder::new().name("redis-notices".to_owned()).spawn(run).is_err() {
                control.end();
            }
            control
        });
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(control) = self.running.take() {
            control.stop();
        }
    }
}

/// What the thread and the store know of each other.
#[derive(Debug, Default)]
struct Control {
    state: Mutex<State>,
    /// Signalled when the store is closed, and when the thread ends.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_stopped: bool,
    has_ended: bool,
    /// Whether the connections of this round are closed.
    is_over: bool,
    /// The connections that are read from.
    sockets: Vec<TcpStream>,
}

impl Control {
    /// Begins a round of connections. Returns whether the store is open.
    fn begin(&self) -> bool {
        let mut state = self.state();
        state.is_over = state.is_stopped;
        !state.is_stopped
    }

    /// Adds a connection. Returns whether the round goes on.
    fn add(&self, wire: &Wire) -> bool {
        let mut state = self.state();
        let Ok(socket) = wire.socket().try_clone() else { return false };
        state.sockets.push(socket);
        !state.is_over
    }

    fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Closes the connections of this round, so that threads stop reading.
    fn close(&self) {
        let mut state = self.state();
        state.is_over = true;
        for socket in state.sockets.drain(..) {
            // It may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits, unless the store is closed first.
    fn wait(&self, time: Duration) {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.is_stopped);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the thread, or gives it up if it does not end soon.
    fn stop(&self) {
        self.state().is_stopped = true;
        self.close();
        self.changed.notify_all();
        let ended =
            self.changed.wait_timeout_while(self.state(), CLOSING, |state| !state.has_ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self) {
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread needs.
struct Listener {
    client: Arc<Client>,
    changes: Arc<Changes>,
    check: StoreCheck,
    control: Arc<Control>,
}

/// A connection to open, and what to hear on it.
struct Subscription {
    address: RedisAddress,
    /// A shard that the server has.
    shard: Shard,
    commands: Vec<Cmd>,
}

impl Listener {
    fn run(&self) {
        let mut wait = FIRST_WAIT;
        let mut round = 0;
        while self.control.begin() {
            let began = Instant::now();
            let subscriptions = self.subscriptions(round);
            thread::scope(|scope| {
                for subscription in &subscriptions {
                    let listen = || {
                        // How it ended makes no difference.
                        let _ = self.listen(subscription);
                        self.control.close();
                    };
                    let name = "redis-notices".to_owned();
                    if thread::Builder::new().name(name).spawn_scoped(scope, listen).is_err() {
                        self.control.close();
                    }
                }
            });
            // Connections that worked were cut, perhaps by a failover.
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            self.control.wait(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            round += 1;
            if self.control.begin() {
                let _ = self.client.router().find_all();
            }
        }
    }

    /// The connections of one round.
    fn subscriptions(&self, round: usize) -> Vec<Subscription> {
        let router = self.client.router();
        let owners = router.owners();
        let channel = |shard| self.check.keys.channel(shard, &self.check.store_id);
        if self.client.sharded_notices() {
            let of = |node: &Arc<Node>| {
                let shards = router.shards_of(node);
                // Channels of different slots need a command each.
                let subscribe = |shard: &Shard| cmd("SSUBSCRIBE").arg(channel(*shard)).take();
                Some(Subscription {
                    address: node.address.clone(),
                    shard: *shards.first()?,
                    commands: shards.iter().map(subscribe).collect(),
                })
            };
            return owners.iter().filter_map(of).collect();
        }
        // Any node of a cluster has all notices. If one is down, the next round takes another.
        let node = owners.get(round % owners.len().max(1));
        let Some(node) = node else { return Vec::new() };
        let Some(shard) = router.shards_of(node).first().copied() else { return Vec::new() };
        let mut subscribe = cmd("SUBSCRIBE");
        for shard in Shard::all(self.client.shards()) {
            subscribe.arg(channel(shard));
        }
        vec![Subscription { address: node.address.clone(), shard, commands: vec![subscribe] }]
    }

    /// Listens until the connection ends.
    fn listen(&self, subscription: &Subscription) -> Result<(), Problem> {
        let Subscription { address, shard, commands } = subscription;
        let connector = self.client.connector();
        let deadline = Instant::now() + connector.connect_timeout;
        let mut wire = connector.open(address, Some(*shard), deadline)?;
        if !self.control.add(&wire) {
            return Ok(());
        }
        wire.send(deadline, commands.iter()).map_err(|failed| failed.problem)?;
        let ping = cmd("PING");
        let mut is_asked = false;
        let mut checked = Instant::now();
        while !self.control.is_over() {
            match wire.receive_one(Instant::now() + SILENCE) {
                Ok(message) => {
                    is_asked = false;
                    self.hear(&message)?;
                }
                Err(Problem::NoReply(_)) if !is_asked => {
                    let deadline = Instant::now() + SILENCE;
                    wire.send(deadline, [&ping].into_iter()).map_err(|failed| failed.problem)?;
                    is_asked = true;
                }
                Err(problem) => return Err(problem),
            }
            if self.client.router().has_sentinels() && checked.elapsed() >= SILENCE {
                let _ = self.client.router().find_all();
                if self.client.router().owner(*shard).is_ok_and(|o| o.address != *address) {
                    return Ok(());
                }
                checked = Instant::now();
            }
        }
        Ok(())
    }

    /// Reports a change of another host.
    fn hear(&self, message: &Value) -> Result<(), Problem> {
        if let Some(change) = notice(message)?.and_then(|text| self.changes.decode(text)) {
            self.changes.report(&change);
        }
        Ok(())
    }
}

/// The text of a notice; `None` for another message.
///
/// # Errors
/// If the connection will have no more notices of its shards.
pub(super) fn notice(message: &Value) -> Result<Option<&str>, Problem> {
    let parts = match message {
        Value::Array(parts) => parts,
        Value::ServerError(error) => return Err(Problem::Reply(error.clone())),
        _ => return Ok(None),
    };
    let kind = parts.first().and_then(text).unwrap_or_default();
    match (kind, parts.as_slice()) {
        ("message" | "smessage", [_, _, notice]) => Ok(text(notice)),
        // The shard has moved to another server.
        ("sunsubscribe", _) => Err(Problem::Lost(None)),
        _ => Ok(None),
    }
}
