//! Runs the instance that answers a request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use wasmtime::{PoolConcurrencyLimitError, Store};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::{Error, WasiBody, WasiHttpView};

use super::body::{LimitedBody, Received};
use super::handler::RequestState;
use super::memory::TakenMemory;
use super::refusal::Refusal;
use super::service::Target;
use crate::guest;
use crate::guest::incident::Incident;
use crate::guest::logging::one_line;
use crate::http_settings::HttpSettings;

/// The longest reason of a failure in the log.
const REASON_BYTES: usize = 1_024;

/// A request for a component.
pub(super) struct Job {
    pub(super) target: Arc<Target>,
    pub(super) request: Request<LimitedBody>,
    pub(super) received: Arc<Received>,
    /// When the instance is ended.
    pub(super) deadline: Instant,
    /// Held until the instance has ended.
    pub(super) permits: [OwnedSemaphorePermit; 2],
    /// What the instance takes.
    pub(super) memory: TakenMemory,
    /// Becomes `true` when the server ends all instances.
    pub(super) cut: watch::Receiver<bool>,
}

/// What the component answers.
type Answer = Result<Response<WasiBody>, ErrorCode>;

impl Job {
    /// Runs an instance until it answers. It then continues on its own, until its deadline. If
    /// this future is dropped before, the instance ends.
    pub(super) async fn run(
        self,
        settings: &Arc<HttpSettings>,
    ) -> Result<Response<WasiBody>, Refusal> {
        let (target, received) = (Arc::clone(&self.target), Arc::clone(&self.received));
        let (send, answer) = oneshot::channel();
        let settings = Arc::clone(settings);
        let has_failed = Arc::new(AtomicBool::new(false));
        let handled = self.handle(settings, send, Arc::clone(&has_failed));
        let mut instance = AbortOnDrop(Some(tokio::spawn(handled)));
        let answer = answer.await;
        // The component was told that its request has ended early.
        if received.is_too_large() {
            instance.detach();
            return Err(Refusal::TooLarge);
        }
        match answer {
            Ok(Ok(response)) => {
                instance.detach();
                Ok(response.map(|body| CompleteBody { body, has_failed }.boxed_unsync()))
            }
            Ok(Err(code)) => {
                instance.detach();
                Err(Refusal::Broken(target.log_failure(&format!("it answered with {code}"))))
            }
            // It has ended without one.
            Err(_) => match instance.ended().await {
                Some(Err(refusal)) => Err(refusal),
                Some(Ok(())) => {
                    Err(Refusal::Broken(target.log_failure("it returned without an answer")))
                }
                None => Err(Refusal::Broken(target.log_failure("its task panicked"))),
            },
        }
    }

    /// Handles the request in an instance of its own.
    async fn handle(
        self,
        settings: Arc<HttpSettings>,
        answer: oneshot::Sender<Answer>,
        has_failed: Arc<AtomicBool>,
    ) -> Result<(), Refusal> {
        let Self { target, request, deadline, permits: _permits, memory, mut cut, .. } = self;
        let component = &target.component;
        let handler = component.handler();
        let proxy = handler.proxy();
        let mut store = RequestState::new_store(
            proxy.engine(),
            component.chain(),
            component.outgoing(),
            memory,
            &settings,
        );
        let run = async {
            let view = &mut store.data_mut().http();
            let request = view.new_incoming_request(Scheme::Http, request)?;
            let answer = view.new_response_outparam(answer)?;
            let proxy = proxy.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(&mut store, request, answer).await
        };
        let ended = tokio::select! {
            ended = timeout_at(deadline, run) => ended,
            _ = cut.wait_for(|cut| *cut) => {
                has_failed.store(true, Ordering::SeqCst);
                return Err(Refusal::Busy);
            }
        };
        let outcome = match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => target.failure(&error, &store),
            Err(_) => {
                let incident = target.log_failure("it ran longer than its timeout");
                Err(Refusal::Late(incident))
            }
        };
        // Before the store is dropped, and with it the body of the response.
        has_failed.store(outcome.is_err(), Ordering::SeqCst);
        outcome
    }
}

impl Target {
    /// Classifies how an instance ended.
    fn failure(&self, error: &wasmtime::Error, store: &Store<RequestState>) -> Result<(), Refusal> {
        if let Some(I32Exit(0)) = error.downcast_ref() {
            return Ok(());
        }
        let chain = self.component.chain();
        if error.is::<PoolConcurrencyLimitError>() || chain.host().is_shut_down() {
            return Err(Refusal::Busy);
        }
        let reason = guest::describe_failure(error, &chain.limits());
        // It may not be the reason, but the next attempt may have more memory.
        if let Some(max) = store.data().refused_of_total() {
            let all = "the memories of all instances together would be larger than allowed";
            return Err(Refusal::Crowded(self.log_failure(&format!(
                "it trapped: {reason}; the host refused to grow its memory: {all} ({max} bytes)"
            ))));
        }
        let refused = store.data().storage().refused_memory();
        let refused = refused
            .map(|max| format!("; the host refused to grow its memory above {max} bytes"))
            .unwrap_or_default();
        Err(Refusal::Broken(self.log_failure(&format!("it trapped: {reason}{refused}"))))
    }

    /// Logs why the component failed.
    fn log_failure(&self, reason: &str) -> Incident {
        let incident = Incident::next();
        tracing::error!(
            incident = %incident.number(),
            component = %self.component.id(),
            route = %self.route,
            // It may contain texts of the component.
            reason = %one_line(reason, REASON_BYTES),
            "a component failed to handle a request",
        );
        incident
    }
}

/// The body of a response, which fails if the instance has failed. Otherwise a body that was
/// not finished would seem to be complete.
struct CompleteBody {
    body: WasiBody,
    has_failed: Arc<AtomicBool>,
}

impl Body for CompleteBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(None) if self.has_failed.load(Ordering::SeqCst) => {
                Poll::Ready(Some(Err(Error::HttpResponseIncomplete)))
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A task that ends with this value, unless it is detached.
struct AbortOnDrop<R>(Option<JoinHandle<R>>);

impl<R> AbortOnDrop<R> {
    fn detach(&mut self) {
        self.0 = None;
    }

    /// What the task returns; `None` if it panicked.
    async fn ended(&mut self) -> Option<R> {
        let task = self.0.as_mut()?;
        let ended = task.await.ok();
        self.0 = None;
        ended
    }
}

impl<R> Drop for AbortOnDrop<R> {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
