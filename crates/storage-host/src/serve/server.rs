//! The server: its components, the connections that it accepts, and its end.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use storage_core::ComponentId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection;
use super::handler::Handler;
use super::machine_memory;
use super::memory::InstanceMemory;
use super::routes::{DuplicateRoute, Routes};
use super::service::{Hosted, Service, Target};
use crate::host::StorageHost;
use crate::http_settings::{HttpSettings, OutgoingHost, Route};

/// How long a server that ends lets its clients send another request, whose response then
/// says that the connection ends. A connection that is closed without this may have a request
/// on its way.
const LAST_REQUESTS: Duration = Duration::from_millis(250);

/// The most connections that the system accepts ahead of a program. More are new ones, which a
/// server that ends leaves.
const BACKLOG: usize = 4_096;

/// How long to wait after a connection was not accepted, usually for lack of descriptors.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// A component of a server.
#[derive(Debug)]
pub struct HttpComponent {
    /// Whose storage it uses.
    pub id: ComponentId,
    /// The component.
    pub handler: Handler,
    /// The requests that it gets.
    pub routes: Vec<Route>,
    /// The hosts that it may send requests to.
    pub outgoing: Vec<OutgoingHost>,
    /// How long it may run for a request; `None` for the server's setting.
    pub timeout: Option<Duration>,
}

/// A server of components, with the storage of a host. A clone is another handle to the same.
#[derive(Clone)]
pub struct HttpServer {
    service: Arc<Service>,
    components: Arc<[Arc<Hosted>]>,
    connections: Arc<Semaphore>,
}

/// Builds an [`HttpServer`].
pub struct HttpServerBuilder {
    host: StorageHost,
    settings: Arc<HttpSettings>,
    routes: Routes<Arc<Target>>,
    components: Vec<Arc<Hosted>>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The requests and connections that were ended because they took longer than
    /// [`HttpSettings::drain_timeout`].
    pub cut: usize,
}

impl HttpServer {
    /// Creates a builder.
    pub fn builder(host: &StorageHost, settings: HttpSettings) -> HttpServerBuilder {
        HttpServerBuilder {
            host: host.clone(),
            settings: Arc::new(settings.bounded()),
            routes: Routes::default(),
            components: Vec::new(),
        }
    }

    /// Replaces a component's code. Requests in progress finish in the old one. Returns whether the
    /// server has the component.
    pub fn replace(&self, id: &ComponentId, handler: &Handler) -> bool {
        let mut is_known = false;
        for component in self.components.iter().filter(|component| component.id() == id) {
            component.replace(handler.clone());
            is_known = true;
        }
        is_known
    }

    /// Serves the connections of a listener until a future is ready. Then answers the requests
    /// that it has accepted, within [`HttpSettings::drain_timeout`]. It accepts no more: serve
    /// once. Call it in a tokio runtime with several threads, I/O and timers.
    ///
    /// The store is not flushed: call [`StorageHost::drain`] afterwards.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub async fn serve(
        &self,
        listener: TcpListener,
        until: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let graceful = GracefulShutdown::new();
        let mut until = pin!(until);
        loop {
            let next = tokio::select! {
                biased;
                () = &mut until => break,
                next = self.accept(&listener) => next,
            };
            match next {
                Ok((stream, permit)) => {
                    connection::start(&self.service, stream, graceful.watcher(), Some(permit));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::select! {
                        biased;
                        () = &mut until => break,
                        () = sleep(AFTER_FAILED_ACCEPT) => {}
                    }
                }
            }
        }
        self.drain(listener, graceful).await
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, permit))
    }

    /// Answers what was accepted.
    async fn drain(
        &self,
        listener: TcpListener,
        graceful: GracefulShutdown,
    ) -> io::Result<Drained> {
        let settings = &self.service.settings;
        let deadline = Instant::now() + settings.drain_timeout;
        self.service.is_stopping.store(true, Ordering::Relaxed);
        // Clients cannot know that only the system has accepted their connections.
        let listener = listener.into_std()?;
        for _ in 0..BACKLOG {
            let Ok((stream, _)) = listener.accept() else { break };
            stream.set_nonblocking(true)?;
            let permit = Arc::clone(&self.connections).try_acquire_owned().ok();
            let stream = TcpStream::from_std(stream)?;
            connection::start(&self.service, stream, graceful.watcher(), permit);
        }
        drop(listener);
        let all_closed = all_free(&self.connections, settings.connections);
        let _ = timeout(LAST_REQUESTS.min(settings.drain_timeout), all_closed).await;
        let ended = async {
            graceful.shutdown().await;
            // Instances that have answered may still run.
            all_free(&self.service.requests, settings.requests).await;
        };
        let cut = match timeout_at(deadline, ended).await {
            Ok(()) => 0,
            Err(_) => {
                let open = settings.connections - self.connections.available_permits();
                let running = settings.requests - self.service.requests.available_permits();
                open.max(running).max(1)
            }
        };
        self.service.cut.send_replace(true);
        Ok(Drained { cut })
    }
}

/// Waits until all permits are free.
async fn all_free(permits: &Semaphore, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // It is never closed.
    let _ = permits.acquire_many(count).await;
}

impl HttpServerBuilder {
    /// Adds a component.
    ///
    /// # Errors
    /// If another route is the same. Then the builder is lost.
    pub fn component(mut self, component: HttpComponent) -> Result<Self, DuplicateRoute> {
        let HttpComponent { id, handler, routes, outgoing, timeout } = component;
        let hosted = Arc::new(Hosted {
            chain: self.host.component(&id),
            handler: RwLock::new(handler),
            outgoing: outgoing.into(),
            timeout: timeout.unwrap_or(self.settings.guest_timeout).min(HttpSettings::MAX_TIME),
            requests: Arc::new(Semaphore::new(self.settings.component_requests)),
            memory: Arc::default(),
        });
        for route in routes {
            let target = Target { route: route.clone(), component: Arc::clone(&hosted) };
            self.routes.add(&route, Arc::new(target))?;
        }
        self.components.push(hosted);
        Ok(self)
    }

    /// Builds the server.
    pub fn build(self) -> HttpServer {
        let Self { settings, routes, components, .. } = self;
        let memory = settings.total_memory_bytes.unwrap_or_else(|| machine_memory::bytes() / 2);
        let service = Service {
            requests: Arc::new(Semaphore::new(settings.requests)),
            memory: InstanceMemory::new(memory, components.len()),
            routes,
            is_stopping: AtomicBool::new(false),
            cut: watch::Sender::new(false),
            settings: Arc::clone(&settings),
        };
        HttpServer {
            service: Arc::new(service),
            components: components.into(),
            connections: Arc::new(Semaphore::new(settings.connections)),
        }
    }
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer")
            .field("settings", &self.service.settings)
            .field("components", &self.components.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServerBuilder")
            .field("settings", &self.settings)
            .field("components", &self.components.len())
            .finish_non_exhaustive()
    }
}
