//! The bytes of a connection, which the calling thread moves itself.
//!
//! tokio-postgres is asynchronous, and callers are threads that block. A trip to a thread of a
//! runtime and back takes longer than a read takes in the server. So the thread that makes a
//! request polls the client and its connection in turn, and blocks on the socket in between.
//! This needs no runtime, and works inside of one.

use std::future::Future;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::AsyncMessage;
use tokio_postgres::error::Severity;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A blocking socket with time limits.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    /// Whether a read returns at once: bytes, the end or an error.
    is_readable: AtomicBool,
}

impl Wire {
    pub(super) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, is_readable: AtomicBool::new(false) })
    }

    /// Waits until a read returns at once. Returns whether that was before the deadline.
    fn wait(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // After an error of the socket, a read returns it.
            let _ = self.socket.set_read_timeout(Some(left));
            match self.socket.peek(&mut [0]) {
                Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    self.is_readable.store(true, Ordering::Relaxed);
                    return true;
                }
            }
        }
    }

    /// Whether the server has sent something, or closed the connection, while no one waited.
    pub(super) fn has_news(&self) -> bool {
        let looked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let restored = self.socket.set_nonblocking(false);
        let is_quiet = matches!(&looked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !is_quiet || restored.is_err()
    }
}

fn is_timeout(error: &io::Error) -> bool {
    // Which one depends on the platform.
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What the client reads and writes. A read that would block is pending until
/// [`drive`] has waited for it; a write blocks.
#[derive(Debug)]
pub(super) struct Stream {
    wire: Arc<Wire>,
    deadline: Duration,
}

impl Stream {
    /// A stream whose writes take at most this long.
    pub(super) fn new(wire: &Arc<Wire>, write_timeout: Duration) -> io::Result<Self> {
        wire.socket.set_write_timeout(Some(write_timeout))?;
        Ok(Self { wire: Arc::clone(wire), deadline: write_timeout })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.wire.is_readable.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        let read = (&self.wire.socket).read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready((&self.wire.socket).write(bytes).map_err(|error| {
            if !is_timeout(&error) {
                return error;
            }
            let limit = self.deadline.as_secs_f32();
            io::Error::new(ErrorKind::TimedOut, format!("the server read nothing for {limit} s"))
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The client's connection, which has to be polled.
type Driver =
    tokio_postgres::Connection<Stream, <MakeRustlsConnect as MakeTlsConnect<Stream>>::Stream>;

/// Moves the bytes of one connection.
pub(super) struct Transport {
    wire: Arc<Wire>,
    /// `None` after the connection has ended.
    driver: Option<Driver>,
    /// Why it has ended, unless a request was told.
    error: Option<tokio_postgres::Error>,
    /// The last warning of the server.
    warning: Option<String>,
}

impl Transport {
    pub(super) fn new(wire: Arc<Wire>, driver: Driver) -> Self {
        Self { wire, driver: Some(driver), error: None, warning: None }
    }

    /// Runs a request of the connection's client to its end. Returns `None` and drops it if it
    /// has not ended at the deadline.
    pub(super) fn run<F: Future>(&mut self, deadline: Instant, request: F) -> Option<F::Output> {
        let wire = Arc::clone(&self.wire);
        drive(&wire, deadline, request, |context| self.poll(context))
    }

    /// Why the connection has ended.
    pub(super) fn take_error(&mut self) -> Option<tokio_postgres::Error> {
        self.error.take()
    }

    /// What the server warned of since the last call of this function.
    pub(super) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Whether requests can be made: the server has not closed the connection.
    pub(super) fn is_open(&self) -> bool {
        self.driver.is_some() && !self.wire.has_news()
    }

    /// Tells the server that the connection ends. Its client must have been dropped.
    pub(super) fn close(mut self) {
        self.poll(&mut Context::from_waker(Waker::noop()));
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        loop {
            match driver.poll_message(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(message))) => {
                    if let AsyncMessage::Notice(notice) = message
                        && notice.parsed_severity() == Some(Severity::Warning)
                    {
                        self.warning = Some(notice.message().to_owned());
                    }
                }
                Poll::Ready(ended) => {
                    self.error = ended.and_then(Result::err);
                    // Requests that wait for a reply now fail.
                    self.driver = None;
                    return;
                }
            }
        }
    }
}

/// Notes that something must be polled again.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future, and calls `meanwhile` after each poll that leaves it pending. Blocks on the
/// wire if neither can go on. Returns `None` if the future is not ready at the deadline.
///
/// All that they wait for is the wire, and each other.
pub(super) fn drive<F: Future>(
    wire: &Wire,
    deadline: Instant,
    future: F,
    mut meanwhile: impl FnMut(&mut Context<'_>),
) -> Option<F::Output> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        meanwhile(&mut context);
        if !flag.0.swap(false, Ordering::Relaxed) && !wire.wait(deadline) {
            return None;
        }
    }
}
