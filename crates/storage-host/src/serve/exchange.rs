//! A request and its response as the access log shows them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, Response};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::Received;
use super::service::Target;

/// The `tracing` target of the access log, for filters.
pub const ACCESS_LOG: &str = "storage_host::access_log";

/// A request in progress. It is logged when it ends, however it does.
pub(super) struct Exchange {
    begun: Instant,
    method: &'static str,
    received: Arc<Received>,
    target: Option<Arc<Target>>,
    /// `None` until there is an answer.
    status: Option<u16>,
    sent: u64,
}

impl Exchange {
    pub(super) fn begin(method: &Method, received: &Arc<Received>) -> Self {
        Self {
            begun: Instant::now(),
            method: name_of(method),
            received: Arc::clone(received),
            target: None,
            status: None,
            sent: 0,
        }
    }

    pub(super) fn set_target(&mut self, target: &Arc<Target>) {
        self.target = Some(Arc::clone(target));
    }

    /// Adds this to a response: the exchange ends with its body.
    pub(super) fn answer(mut self, response: Response<WasiBody>) -> Response<AnswerBody> {
        self.status = Some(response.status().as_u16());
        response.map(|body| AnswerBody { body, exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let target = self.target.as_ref();
        tracing::info!(
            target: ACCESS_LOG,
            component = target.map(|target| tracing::field::display(target.component.id())),
            route = target.map(|target| tracing::field::display(&target.route)),
            method = self.method,
            status = self.status,
            microseconds = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            received_bytes = self.received.bytes(),
            sent_bytes = self.sent,
            "request",
        );
    }
}

/// The name of a standard method: others are texts of the client.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

/// The body of a response.
pub(super) struct AnswerBody {
    body: WasiBody,
    exchange: Exchange,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.exchange.sent = self.exchange.sent.saturating_add(len);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
