//! The thread that answers requests at the socket.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::AdminError;
use super::page::{self, Page, Token};
use super::routes::{self, Answer, Reload, Served};
use super::socket::{self, SocketFile};
use super::stream::STALL;
use super::wire::StoreInfo;
use crate::host::StorageHost;
use crate::settings::Applied;
use crate::store_url::StoreUrl;
use crate::timed_stream::{Patience, TimedStream};

/// How many connections are served at a time. Others wait.
const CONNECTIONS: usize = 16;

/// How many threads call the store.
const THREADS: usize = CONNECTIONS;

/// How long a client may take to send the head of a request, and so stay idle.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// The maximum bytes of the head of a request. The longest key takes 3 KiB.
const HEAD_BYTES: usize = 32 << 10;

/// How long requests in progress may take after [`AdminServer::stop`].
const END_TIME: Duration = Duration::from_secs(3);

/// The pause after a failed `accept`, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A thread that answers requests until it is stopped.
struct Thread {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop();
        // A panic of the thread was reported.
        self.thread.take().map(JoinHandle::join);
    }
}

/// An open admin socket. Dropping it stops it and waits for its thread, which takes at most
/// 3 seconds.
pub struct AdminServer {
    socket: SocketFile,
    thread: Thread,
}

impl AdminServer {
    /// The path of the socket.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }

    /// Removes the socket and accepts no further requests. Requests in progress are answered
    /// within 3 seconds, or not at all. Returns at once, so that it can be called while a
    /// signal is handled. A second call does nothing.
    pub fn stop(&self) {
        // First, so that no new client finds a socket without a listener.
        self.socket.remove();
        self.thread.stop();
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for AdminServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminServer").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// Opens the admin socket of a host whose store was opened for writing with `url`.
///
/// A thread with its own runtime answers, so this works with and without tokio. The store
/// stays open until the server is dropped: drop it before the process closes the store, or
/// call [`AdminServer::stop`] when a signal ends it. A client may read and write everything in
/// the store. Only the user of this process and root can connect.
///
/// # Errors
/// [`AdminError::NoPath`] for a store without a path, such as one on a server;
/// [`AdminError::Socket`] if the socket cannot be created, or another process listens on it;
/// [`AdminError::Thread`].
pub fn serve(host: &StorageHost, url: &StoreUrl) -> Result<AdminServer, AdminError> {
    start_socket(host, url, None)
}

/// As [`serve`], and clients can have the host read its settings again
/// ([`Client::reload`](super::Client::reload)): `reload` does so, such as with
/// [`StorageHost::apply`], and returns what changed. Its error says why nothing changed. It may
/// be called by several threads at a time, which may block.
///
/// # Errors
/// As [`serve`].
pub fn serve_with_reload(
    host: &StorageHost,
    url: &StoreUrl,
    reload: impl Fn() -> Result<Applied, String> + Send + Sync + 'static,
) -> Result<AdminServer, AdminError> {
    start_socket(host, url, Some(Box::new(reload)))
}

fn start_socket(
    host: &StorageHost,
    url: &StoreUrl,
    reload: Option<Box<Reload>>,
) -> Result<AdminServer, AdminError> {
    let store = url.path().ok_or(AdminError::NoPath { scheme: url.scheme() })?;
    let of = |path: &Path, error| AdminError::Socket { path: path.to_owned(), error };
    let (device, inode) = socket::identity_of(store).map_err(|error| of(store, error))?;
    let path = socket::path_of(store).map_err(|error| of(store, error))?;
    let (socket, listener) = SocketFile::create(&path).map_err(|error| of(&path, error))?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let served = Served {
        host: host.clone(),
        store: StoreInfo {
            url: url.to_string(),
            scheme: url.scheme().to_owned(),
            device,
            inode,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: since_1970.as_secs(),
            store_id: host.store().properties().store_id,
        },
        reload,
    };
    let answer = {
        let served = Arc::new(served);
        move |request| routes::answer(Arc::clone(&served), request)
    };
    match start(move || UnixListener::from_std(listener), answer) {
        Ok(thread) => Ok(AdminServer { socket, thread }),
        Err(error) => {
            socket.remove();
            Err(AdminError::Thread(error))
        }
    }
}

/// A server of the page for browsers. Dropping it stops it and waits for its thread, which
/// takes at most 3 seconds.
pub struct PageServer {
    address: SocketAddr,
    thread: Thread,
}

impl PageServer {
    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no further requests. Returns at once.
    pub fn stop(&self) {
        self.thread.stop();
    }
}

impl fmt::Debug for PageServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageServer").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Serves a page for browsers at `listener`: the components of a host, their keys, values,
/// usage and quotas, and what components do. It changes nothing.
///
/// A browser must send the token, which it asks its user for, and a program the header
/// `Authorization: Bearer TOKEN`. The connection is not encrypted: listen on a loopback
/// address. `url` is shown without a password.
///
/// # Errors
/// [`AdminError::Thread`].
pub fn serve_page(
    host: &StorageHost,
    url: &StoreUrl,
    listener: std::net::TcpListener,
    token: Token,
) -> Result<PageServer, AdminError> {
    let address = listener.local_addr().map_err(AdminError::Thread)?;
    listener.set_nonblocking(true).map_err(AdminError::Thread)?;
    let page = Arc::new(Page {
        host: host.clone(),
        url: url.to_string(),
        token,
        cookie: format!("storage_host_{}", address.port()),
    });
    let answer = move |request| page::answer(Arc::clone(&page), request);
    let thread = start(move || TcpListener::from_std(listener), answer);
    Ok(PageServer { address, thread: thread.map_err(AdminError::Thread)? })
}

/// A listener of a runtime.
trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection of a client that may use this.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>>;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.accept().await?;
            if is_allowed(&stream) {
                return Ok(stream);
            }
        }
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Starts the thread, and returns when it listens. `listen` is called in its runtime.
fn start<L: Accept, F: Future<Output = Answer> + Send + 'static>(
    listen: impl FnOnce() -> io::Result<L> + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> io::Result<Thread> {
    let (stop, stopped) = watch::channel(false);
    let (report, is_ready) = mpsc::sync_channel(1);
    // The runtime is created there, because a runtime must not be dropped in another one.
    let run = move || match prepare(listen) {
        Ok((runtime, listener)) => {
            // The receiver waits for it.
            let _ = report.send(Ok(()));
            runtime.block_on(accept(listener, answer, stopped));
            // A call that blocks must not delay the end of the process.
            runtime.shutdown_background();
        }
        Err(error) => drop(report.send(Err(error))),
    };
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(run)?;
    let ready = is_ready.recv();
    ready.unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
    Ok(Thread { stop, thread: Some(thread) })
}

fn prepare<L>(listen: impl FnOnce() -> io::Result<L>) -> io::Result<(Runtime, L)> {
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time().max_blocking_threads(THREADS).thread_name("admin-call");
    let runtime = builder.build()?;
    let listener = {
        let _entered = runtime.enter();
        listen()?
    };
    Ok((runtime, listener))
}

/// Accepts connections until the server is stopped, and then ends those that are open.
async fn accept<L: Accept, F: Future<Output = Answer> + Send + 'static>(
    listener: L,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    mut stopped: watch::Receiver<bool>,
) {
    let open = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    {
        // An error means that the server was dropped.
        let mut stopped = pin!(stopped.wait_for(|stopped| *stopped));
        loop {
            let next = next_connection(&listener, &room);
            let Some((stream, permit)) = unless(stopped.as_mut(), next).await else { break };
            let stream = TimedStream::new(stream, Patience::Stalled(STALL));
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(stream), service);
            let connection = open.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to the admin socket failed");
                }
                drop(permit);
            });
        }
    }
    drop(listener);
    if timeout(END_TIME, open.shutdown()).await.is_err() {
        tracing::warn!("requests at the admin socket were not answered in time");
    }
}

/// Waits for room, and then for a connection.
async fn next_connection<L: Accept>(
    listener: &L,
    room: &Arc<Semaphore>,
) -> (L::Stream, Option<OwnedSemaphorePermit>) {
    // It is never closed.
    let permit = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.next().await {
            Ok(stream) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin socket");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the client's user may use the socket. Not all systems check its mode.
fn is_allowed(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if socket::may_ask(peer.uid()) => true,
        Ok(peer) => {
            tracing::warn!(user = peer.uid(), "refused a client of the admin socket");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "cannot identify a client of the admin socket");
            false
        }
    }
}

/// The result of `work`; `None` if `end` is ready first.
async fn unless<T>(mut end: impl Future + Unpin, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(move |context| {
        if pin!(&mut end).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(context).map(Some)
    })
    .await
}
