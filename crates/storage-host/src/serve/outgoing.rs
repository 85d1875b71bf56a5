//! Requests that components send.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Uri, http::uri::Scheme};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::sender::{self, Sent};
use crate::component_chain::ComponentChain;
use crate::http_settings::OutgoingHost;

/// How many requests an instance can have in progress. One ends with the body of its response.
const AT_A_TIME: usize = 8;

/// The most bytes of one write to the body of a request or a response. Two wait at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What an instance may send.
pub(super) struct Outgoing {
    chain: Arc<ComponentChain>,
    allowed: Arc<[OutgoingHost]>,
    free: Arc<Semaphore>,
}

impl Outgoing {
    pub(super) fn new(chain: Arc<ComponentChain>, allowed: Arc<[OutgoingHost]>) -> Self {
        Self { chain, allowed, free: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    fn allows(&self, uri: &Uri) -> bool {
        let Some(authority) = uri.authority() else { return false };
        let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS);
        // A user and a password before the host would hide the host from readers of a log.
        !authority.as_str().contains('@')
            && self.allowed.iter().any(|allowed| {
                allowed.allows(scheme.as_str(), authority.host(), authority.port_u16())
            })
    }

    /// Tells the operator what to add to the manifest.
    fn log_denied(&self, uri: &Uri) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let id = self.chain.id();
        if let Some(suppressed) = self.chain.log_budgets().take(id, Instant::now()) {
            crate::log_budget::report(id, suppressed);
            let host = uri.authority().map(|authority| authority.host());
            tracing::info!(component = %id, host, "a request of a component was denied");
        }
    }
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if !self.allows(request.uri()) {
            self.log_denied(request.uri());
            return Box::new(std::future::ready(Err(Error::HttpRequestDenied)));
        }
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            return Box::new(std::future::ready(Err(Error::ConnectionLimitReached)));
        };
        let authority = request.uri().authority().map(|authority| authority.as_str());
        if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        Box::new(sender::send(request, options.unwrap_or_default(), permit))
    }

    // By default 1 MiB, of which an instance could have two for each of its handles.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    // The defaults of these log what a guest can cause at will.

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::HttpProtocolError
    }

    fn p2_error_from_connect(&mut self, error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
            io::ErrorKind::TimedOut => ErrorCode::ConnectionTimeout,
            _ => ErrorCode::DestinationUnavailable,
        }
    }

    fn p2_error_from_tls(&mut self, _: &io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }
}
