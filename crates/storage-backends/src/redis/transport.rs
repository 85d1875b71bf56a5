//! The bytes of one connection: commands out, replies in, each within a time limit.
//!
//! The socket blocks. Its timeouts are only changed if they differ much from what is left, so that
//! an ordinary call needs one system call to write and one to read.

use std::io::{self, ErrorKind, Read, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, Parser, Value};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::deployment::RedisAddress;
use super::error::Problem;
use crate::tcp::{self, ConnectError};

/// How much later than its deadline a read or a write may end.
const SLACK: Duration = Duration::from_millis(20);

/// A connection. After a [`Problem`] it must not be used again.
pub(super) struct Wire {
    stream: Stream,
    parser: Parser,
    read_timeout: Duration,
    write_timeout: Duration,
    /// The longest time from a request to its reply.
    limit: Duration,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A request that failed.
pub(super) struct Failed {
    pub(super) problem: Problem,
    /// Whether the server may have received it.
    pub(super) was_sent: bool,
}

impl Wire {
    /// Connects within `connect_timeout`, and encrypts the connection if there is a
    /// configuration for that.
    pub(super) fn open(
        address: &RedisAddress,
        tls: Option<&Arc<ClientConfig>>,
        connect_timeout: Duration,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Self, Problem> {
        let late = || Problem::NoConnection(connect_timeout);
        let socket = tcp::connect(&address.host, address.port, deadline);
        let socket = socket.map_err(|error| match error {
            ConnectError::Refused(error) => Problem::Connect(error),
            ConnectError::Late => late(),
        })?;
        socket.set_nodelay(true).map_err(Problem::Connect)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        socket.set_write_timeout(Some(left)).map_err(Problem::Connect)?;
        socket.set_read_timeout(Some(left)).map_err(Problem::Connect)?;
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(config) => Stream::Tls(Box::new(handshake(
                socket,
                config,
                &address.host,
                connect_timeout,
                deadline,
            )?)),
        };
        Ok(Self { stream, parser: Parser::new(), read_timeout: left, write_timeout: left, limit })
    }

    /// Sends commands in one write. Returns how many replies will come.
    pub(super) fn send<'c>(
        &mut self,
        deadline: Instant,
        commands: impl Iterator<Item = &'c Cmd>,
    ) -> Result<usize, Failed> {
        let (mut packed, mut count) = (Vec::new(), 0);
        for command in commands {
            command.write_packed_command(&mut packed);
            count += 1;
        }
        self.send_packed(deadline, &packed)?;
        Ok(count)
    }

    /// Sends requests that are packed already, in one write.
    pub(super) fn send_packed(&mut self, deadline: Instant, packed: &[u8]) -> Result<(), Failed> {
        let mut rest = packed;
        let limit = self.limit;
        let failed =
            |rest: &[u8], problem| Err(Failed { problem, was_sent: rest.len() < packed.len() });
        loop {
            if rest.is_empty() && matches!(self.stream, Stream::Plain(_)) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return failed(rest, Problem::NoReply(limit));
            }
            if let Err(error) = self.set_timeouts(left) {
                return failed(rest, Problem::Lost(Some(error)));
            }
            let written = match &mut self.stream {
                Stream::Plain(socket) => socket.write(rest),
                Stream::Tls(stream) if rest.is_empty() => match stream.flush() {
                    Ok(()) => return Ok(()),
                    Err(error) => Err(error),
                },
                Stream::Tls(stream) => stream.write(rest),
            };
            match written {
                Ok(0) => return failed(rest, Problem::Lost(None)),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => {}
                Err(error) => return failed(rest, Problem::Lost(Some(error))),
            }
        }
    }

    /// Makes a write end in this time, or little more.
    fn set_timeouts(&mut self, left: Duration) -> io::Result<()> {
        if !is_near(self.write_timeout, left) {
            self.socket().set_write_timeout(Some(left))?;
            self.write_timeout = left;
        }
        // A write with TLS reads, too, if it cannot go on.
        if matches!(self.stream, Stream::Tls(_)) && !is_near(self.read_timeout, left) {
            self.socket().set_read_timeout(Some(left))?;
            self.read_timeout = left;
        }
        Ok(())
    }

    /// Receives replies.
    pub(super) fn receive(
        &mut self,
        deadline: Instant,
        count: usize,
    ) -> Result<Vec<Value>, Problem> {
        let mut replies = Vec::with_capacity(count);
        while replies.len() < count {
            replies.push(self.receive_one(deadline)?);
        }
        Ok(replies)
    }

    /// Receives the next reply.
    pub(super) fn receive_one(&mut self, deadline: Instant) -> Result<Value, Problem> {
        let mut reader = Reader {
            stream: &mut self.stream,
            read_timeout: &mut self.read_timeout,
            deadline,
            end: None,
        };
        let parsed = self.parser.parse_value(&mut reader);
        match (parsed, reader.end) {
            (Ok(value), _) => Ok(value),
            (Err(_), Some(End::Late)) => Err(Problem::NoReply(self.limit)),
            (Err(_), Some(End::Closed)) => Err(Problem::Lost(None)),
            (Err(_), Some(End::Failed(error))) => Err(Problem::Lost(Some(error))),
            (Err(_), None) => Err(Problem::NotRedis),
        }
    }

    /// Whether the server has sent something, or closed the connection, while no one waited.
    pub(super) fn has_news(&self) -> bool {
        let socket = self.socket();
        let looked = socket.set_nonblocking(true).and_then(|()| socket.peek(&mut [0]));
        let restored = socket.set_nonblocking(false);
        let is_quiet = matches!(&looked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !is_quiet || restored.is_err()
    }

    /// Waits this long until the server has sent something or closed the connection, and leaves
    /// it there. If the socket fails, returns `true`, so that reading it says why.
    pub(super) fn has_news_within(&mut self, limit: Duration) -> bool {
        if self.read_timeout != limit {
            if self.socket().set_read_timeout(Some(limit)).is_err() {
                return true;
            }
            self.read_timeout = limit;
        }
        match self.socket().peek(&mut [0]) {
            Err(error) => !is_timeout(&error) && error.kind() != ErrorKind::Interrupted,
            Ok(_) => true,
        }
    }

    /// The socket, to shut it down from another thread.
    pub(super) fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

/// Whether a time limit of the socket need not be changed to what is left.
fn is_near(timeout: Duration, left: Duration) -> bool {
    timeout <= left + SLACK && timeout * 2 >= left
}

/// Encrypts a connection. The socket's read timeout is what is left until the deadline.
fn handshake(
    socket: TcpStream,
    config: &Arc<ClientConfig>,
    host: &str,
    connect_timeout: Duration,
    deadline: Instant,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Problem> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| Problem::Tls(format!("{host:?} is not a host name: {error}")))?;
    let session = ClientConnection::new(Arc::clone(config), name)
        .map_err(|error| Problem::Tls(error.to_string()))?;
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_timeout(&error) => return Err(Problem::NoTls(connect_timeout)),
            Err(error) => return Err(Problem::Tls(error.to_string())),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Problem::NoTls(connect_timeout));
        }
        stream.sock.set_read_timeout(Some(left)).map_err(Problem::Connect)?;
    }
    Ok(stream)
}

fn is_timeout(error: &io::Error) -> bool {
    // Which one depends on the platform.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Reads until a deadline.
struct Reader<'w> {
    stream: &'w mut Stream,
    read_timeout: &'w mut Duration,
    deadline: Instant,
    /// Why there is nothing more to read.
    end: Option<End>,
}

enum End {
    Late,
    Closed,
    Failed(io::Error),
}

impl Reader<'_> {
    /// Makes a read end in this time, or little more.
    fn set_timeout(&mut self, left: Duration) -> io::Result<()> {
        if is_near(*self.read_timeout, left) {
            return Ok(());
        }
        let socket = match &*self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        };
        socket.set_read_timeout(Some(left))?;
        *self.read_timeout = left;
        Ok(())
    }

    fn ended(&mut self, end: End) -> io::Error {
        self.end = Some(end);
        io::Error::from(ErrorKind::UnexpectedEof)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.ended(End::Late));
            }
            if let Err(error) = self.set_timeout(left) {
                return Err(self.ended(End::Failed(error)));
            }
            let read = match &mut *self.stream {
                Stream::Plain(socket) => socket.read(buffer),
                Stream::Tls(stream) => stream.read(buffer),
            };
            match read {
                Ok(0) => return Err(self.ended(End::Closed)),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => {}
                // An encrypted connection that ends without saying so.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(self.ended(End::Closed));
                }
                Err(error) => return Err(self.ended(End::Failed(error))),
            }
        }
    }
}
