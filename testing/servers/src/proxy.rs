//! A TCP proxy on loopback between a client and a server, which disturbs them on command.

mod conversation;
mod postgres;
mod redis;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::ports;
use conversation::{Conversation, Seen};

/// The direction of bytes through a [`Proxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Requests,
    /// From the server to the client.
    Replies,
}

/// What a proxy has seen since it was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The round trips of each accepted connection. Requests that are sent together are one
    /// round trip. Those of encrypted connections are not seen.
    ///
    /// Of PostgreSQL: messages of the client followed by an answer up to `ReadyForQuery`,
    /// without the log-in. Of Redis: commands, also those that log in, followed by a reply to
    /// each; nothing after the connection has subscribed.
    pub round_trips: Vec<u64>,
    /// PostgreSQL's requests to cancel the statement of another connection.
    pub cancel_requests: u64,
}

/// A proxy on loopback. It forwards everything until a method says otherwise. All
/// connections end when it is dropped.
///
/// A cut connection ends as if the other side had closed it, without the bytes that were
/// not forwarded.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the proxy does at this time.
#[derive(Debug)]
struct State {
    server: SocketAddr,
    traffic: Traffic,
    requests: Rule,
    replies: Rule,
    /// The reply to a request with this text is cut.
    cut_reply_to: Option<String>,
    wanted: Listening,
    actual: Listening,
    connections: Vec<Weak<Connection>>,
}

/// How bytes of one direction are forwarded.
#[derive(Debug, Clone, Copy, Default)]
struct Rule {
    held: bool,
    delay: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    Yes,
    No,
    /// The proxy ends.
    Never,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Its position among the accepted connections.
    number: usize,
    conversation: Mutex<Conversation>,
    /// Whether the next reply is cut.
    ends_with_reply: AtomicBool,
    /// Changes only while the state is locked, so that a thread that waits notices it.
    is_cut: AtomicBool,
}

impl Traffic {
    /// The round trips of all connections since an earlier time.
    pub fn round_trips_since(&self, earlier: &Self) -> u64 {
        let sum = |traffic: &Self| traffic.round_trips.iter().sum::<u64>();
        sum(self).saturating_sub(sum(earlier))
    }
}

impl Proxy {
    /// Starts a proxy of the server with this address.
    ///
    /// # Errors
    /// If there is no free port.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = ports::listen()?;
        let address = listener.local_addr()?;
        let state = State {
            server,
            traffic: Traffic::default(),
            requests: Rule::default(),
            replies: Rule::default(),
            cut_reply_to: None,
            wanted: Listening::Yes,
            actual: Listening::Yes,
            connections: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let acceptor = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("proxy".to_owned())
                .spawn(move || shared.accept(listener, address))?
        };
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    pub fn traffic(&self) -> Traffic {
        self.shared.lock().traffic.clone()
    }

    /// Forwards bytes of this direction only after a delay, from now on.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.shared.change(|state| state.rule(direction).delay = delay);
    }

    /// Holds back the bytes of this direction until [`release`](Self::release). A request
    /// that is held back still reaches the server after its client has given up.
    pub fn hold(&self, direction: Direction) {
        self.shared.change(|state| state.rule(direction).held = true);
    }

    /// Forwards what was held back, and everything from now on.
    pub fn release(&self) {
        self.shared.change(|state| {
            state.requests.held = false;
            state.replies.held = false;
        });
    }

    /// Cuts all connections. New ones are accepted.
    pub fn cut(&self) {
        self.shared.change(|state| {
            let connections = state.connections.drain(..);
            connections.filter_map(|one| one.upgrade()).for_each(|connection| connection.cut());
        });
    }

    /// Cuts the connection of the next request of PostgreSQL or Redis that contains this
    /// text, instead of forwarding its reply. The request was forwarded, and the server has
    /// answered it. Does not see the requests of encrypted connections.
    pub fn cut_reply_to(&self, text: &str) {
        self.shared.change(|state| state.cut_reply_to = Some(text.to_owned()));
    }

    /// Takes [`cut_reply_to`](Self::cut_reply_to) back, if no request has had its text.
    pub fn keep_replies(&self) {
        self.shared.change(|state| state.cut_reply_to = None);
    }

    /// Refuses new connections. Open ones stay.
    pub fn refuse(&self) {
        self.listen(Listening::No);
    }

    /// Accepts new connections again.
    pub fn accept(&self) {
        self.listen(Listening::Yes);
    }

    /// Connects new connections to another server.
    pub fn redirect(&self, server: SocketAddr) {
        self.shared.change(|state| state.server = server);
    }

    /// Starts or stops listening, and waits until that is done.
    fn listen(&self, wanted: Listening) {
        if self.shared.lock().actual == wanted {
            return;
        }
        self.shared.change(|state| state.wanted = wanted);
        // The thread may wait for a connection.
        drop(TcpStream::connect(self.address));
        let mut state = self.shared.lock();
        while state.actual != wanted {
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listen(Listening::Never);
        self.release();
        self.cut();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl State {
    fn rule(&mut self, direction: Direction) -> &mut Rule {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Replies => &mut self.replies,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Accepts connections until the proxy ends.
    fn accept(self: &Arc<Self>, listener: TcpListener, address: SocketAddr) {
        let mut listener = Some(listener);
        loop {
            let accepted = listener.as_ref().map(TcpListener::accept);
            let mut state = self.lock();
            if state.wanted == Listening::Yes {
                if listener.is_none() {
                    listener = listen_again(address);
                }
                if state.actual != Listening::Yes && listener.is_some() {
                    // The connection only woke this thread.
                    state.actual = Listening::Yes;
                    self.changed.notify_all();
                    continue;
                }
                let server = state.server;
                drop(state);
                if let Some(Ok((client, _))) = accepted {
                    // The client sees the failure of the server as the end of its connection.
                    let _ = self.connect(client, server);
                }
                continue;
            }
            drop(listener.take());
            state.actual = state.wanted;
            self.changed.notify_all();
            while state.wanted == state.actual {
                if state.wanted == Listening::Never {
                    return;
                }
                state = self.wait(state);
            }
        }
    }

    /// Connects a client with the server, and starts to forward.
    fn connect(self: &Arc<Self>, client: TcpStream, server: SocketAddr) -> Result<()> {
        let server = TcpStream::connect(server).context("cannot connect to the server")?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let connection = {
            let mut state = self.lock();
            let connection = Arc::new(Connection {
                client,
                server,
                number: state.traffic.round_trips.len(),
                conversation: Mutex::default(),
                ends_with_reply: AtomicBool::new(false),
                is_cut: AtomicBool::new(false),
            });
            state.traffic.round_trips.push(0);
            state.connections.retain(|known| known.strong_count() > 0);
            state.connections.push(Arc::downgrade(&connection));
            connection
        };
        for direction in [Direction::Requests, Direction::Replies] {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            let forward = move || shared.forward(&connection, direction);
            std::thread::Builder::new().name("proxy".to_owned()).spawn(forward)?;
        }
        Ok(())
    }

    /// Forwards bytes of one direction until one side ends the connection.
    fn forward(&self, connection: &Connection, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::Requests => (&connection.client, &connection.server),
            Direction::Replies => (&connection.server, &connection.client),
        };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length) else { return };
            let is_cut = match direction {
                Direction::Requests => {
                    self.request(connection, bytes);
                    false
                }
                Direction::Replies => connection.reply(bytes),
            };
            if is_cut || !self.may_pass(connection, direction) {
                // Its other direction may wait for a change.
                self.change(|_| connection.cut());
                return;
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Counts a request.
    fn request(&self, connection: &Connection, bytes: &[u8]) {
        let mut conversation = connection.conversation();
        let seen = conversation.sent(bytes);
        let mut state = self.lock();
        match seen {
            Seen::Nothing => {}
            Seen::RoundTrip => {
                let trips = state.traffic.round_trips.get_mut(connection.number);
                trips.into_iter().for_each(|trips| *trips += 1);
            }
            Seen::CancelRequest => state.traffic.cancel_requests += 1,
        }
        let text = state.cut_reply_to.as_deref().map(str::as_bytes);
        if conversation.is_waiting()
            && let Some(text) = text
            && bytes.windows(text.len()).any(|part| part == text)
        {
            state.cut_reply_to = None;
            connection.ends_with_reply.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until bytes of this direction may be forwarded; false if the connection is cut.
    fn may_pass(&self, connection: &Connection, direction: Direction) -> bool {
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            let Rule { held, delay } = *state.rule(direction);
            let left = delay.saturating_sub(start.elapsed());
            if connection.is_cut() {
                return false;
            }
            if held {
                state = self.wait(state);
            } else if left > Duration::ZERO {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            } else {
                return true;
            }
        }
    }
}

impl Connection {
    fn conversation(&self) -> MutexGuard<'_, Conversation> {
        self.conversation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a reply; true if it is to be cut.
    fn reply(&self, bytes: &[u8]) -> bool {
        self.conversation().answered(bytes);
        self.ends_with_reply.load(Ordering::Relaxed)
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        // An error means that it has ended already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Listens on the address again. Another program might have taken it.
fn listen_again(address: SocketAddr) -> Option<TcpListener> {
    let listener = TcpListener::bind(address).ok();
    if listener.is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    listener
}
