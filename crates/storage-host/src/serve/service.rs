//! Answers a request: finds its component, and keeps within the limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response};
use storage_core::ComponentId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::WasiBody;

use super::body::{LimitedBody, Received};
use super::exchange::{AnswerBody, Exchange};
use super::handler::Handler;
use super::instance::Job;
use super::memory::{InstanceMemory, TakenBytes};
use super::refusal::Refusal;
use super::routes::Routes;
use crate::component_chain::ComponentChain;
use crate::http_settings::{HttpSettings, OutgoingHost, Route};
use crate::timed_stream::Deadline;

/// A component of a server.
pub(super) struct Hosted {
    pub(super) chain: Arc<ComponentChain>,
    pub(super) handler: RwLock<Handler>,
    pub(super) outgoing: Arc<[OutgoingHost]>,
    /// How long an instance may run.
    pub(super) timeout: Duration,
    /// The requests that it may have in progress.
    pub(super) requests: Arc<Semaphore>,
    /// What its instances have taken.
    pub(super) memory: Arc<TakenBytes>,
}

impl Hosted {
    pub(super) fn id(&self) -> &ComponentId {
        self.chain.id()
    }

    pub(super) fn chain(&self) -> &Arc<ComponentChain> {
        &self.chain
    }

    pub(super) fn outgoing(&self) -> &Arc<[OutgoingHost]> {
        &self.outgoing
    }

    pub(super) fn handler(&self) -> Handler {
        self.handler.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, handler: Handler) {
        *self.handler.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }
}

/// A route and its component.
pub(super) struct Target {
    pub(super) route: Route,
    pub(super) component: Arc<Hosted>,
}

/// What all connections share.
pub(super) struct Service {
    pub(super) settings: Arc<HttpSettings>,
    pub(super) routes: Routes<Arc<Target>>,
    pub(super) requests: Arc<Semaphore>,
    pub(super) memory: InstanceMemory,
    /// Whether each response is the last one of its connection.
    pub(super) is_stopping: AtomicBool,
    /// Becomes `true` when connections and instances are ended.
    pub(super) cut: watch::Sender<bool>,
}

impl Service {
    /// Answers a request, always.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        deadline: &Deadline,
    ) -> Response<AnswerBody> {
        let received = Arc::new(Received::default());
        let mut exchange = Exchange::begin(request.method(), &received);
        let until = Instant::now() + self.settings.request_timeout;
        deadline.set(until);
        let answered = self.handle(request, received, until, &mut exchange).await;
        let mut response = answered.unwrap_or_else(Refusal::into_response);
        if self.is_stopping.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        exchange.answer(response)
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        received: Arc<Received>,
        until: Instant,
        exchange: &mut Exchange,
    ) -> Result<Response<WasiBody>, Refusal> {
        if request.method() == Method::CONNECT {
            return Err(Refusal::Connect);
        }
        let host = host_of(&request).ok_or(Refusal::NoHost)?;
        let target = self.routes.find(&host, request.uri().path()).ok_or(Refusal::NoRoute)?;
        exchange.set_target(target);
        let max = self.settings.body_bytes;
        if request.body().size_hint().lower() > max {
            return Err(Refusal::TooLarge);
        }
        let permits = self.admit(&target.component).await.ok_or(Refusal::Busy)?;
        let request = {
            let received = Arc::clone(&received);
            request.map(|body| LimitedBody::new(body, max, received))
        };
        let job = Job {
            target: Arc::clone(target),
            request,
            received,
            deadline: until.min(Instant::now() + target.component.timeout),
            permits,
            memory: self.memory.of_instance(&target.component.memory),
            cut: self.cut.subscribe(),
        };
        job.run(&self.settings).await
    }

    /// Waits for a permit of the component and one of the server, in this order: a component
    /// with many requests waits for its own permits and not among the others.
    async fn admit(&self, component: &Hosted) -> Option<[OwnedSemaphorePermit; 2]> {
        let permits = async {
            let own = Arc::clone(&component.requests).acquire_owned().await.ok()?;
            let any = Arc::clone(&self.requests).acquire_owned().await.ok()?;
            Some([own, any])
        };
        timeout(self.settings.queue_timeout, permits).await.ok().flatten()
    }
}

/// The host of a request, without a port.
fn host_of(request: &Request<Incoming>) -> Option<String> {
    if let Some(authority) = request.uri().authority() {
        return host_in(authority);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    host_in(&host.to_str().ok()?.parse().ok()?)
}

/// The host in an authority. A user before it is not valid in HTTP, and the component would see it.
fn host_in(authority: &Authority) -> Option<String> {
    (!authority.as_str().contains('@')).then(|| authority.host().to_owned())
}
