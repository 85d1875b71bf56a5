//! Sends a request of a component over a connection of its own.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// How long each step may take, of which a component can choose less. Its instance ends before.
const STEP: Duration = Duration::from_secs(600);

/// The most bytes of the headers of a response, and of what was received of its body and not read.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) type Sent = Result<(Response<WasiBody>, Connection), Error>;
/// Moves the bytes of a response.
pub(super) type Connection = Box<dyn Future<Output = Result<(), Error>> + Send>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Sends a request and waits for the headers of the response. `permit` is held as long as its
/// body.
pub(super) async fn send(
    mut request: Request<WasiBody>,
    options: RequestOptions,
    permit: OwnedSemaphorePermit,
) -> Sent {
    let uri = request.uri();
    let authority = uri.authority().cloned().ok_or(Error::HttpRequestUriInvalid)?;
    let is_encrypted = uri.scheme() != Some(&Scheme::HTTP);
    // Only a proxy would get the whole of it.
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let within = |time: Option<Duration>| time.unwrap_or(STEP).min(STEP);
    let connecting = timeout(within(options.connect_timeout), connect(&authority, is_encrypted));
    let stream = connecting.await.map_err(|_| Error::ConnectionTimeout)??;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES);
    let (mut requests, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut connection = Box::pin(connection);
    let mut has_ended = false;
    let first_byte = within(options.first_byte_timeout);
    let mut answered = pin!(timeout(first_byte, requests.send_request(request)));
    let answered = tokio::select! {
        biased;
        answered = &mut answered => answered,
        // Then the answer is there, or the reason why there is none.
        _ = &mut connection => {
            has_ended = true;
            answered.await
        }
    };
    let response = answered.map_err(|_| Error::ConnectionReadTimeout)??;
    let between_parts = within(options.between_bytes_timeout);
    let waiting = Box::pin(sleep(between_parts));
    let response = response
        .map(|body| ResponseBody { body, between_parts, waiting, _permit: permit }.boxed_unsync());
    let connection = async move {
        match has_ended {
            true => Ok(()),
            false => connection.await.map_err(Error::from),
        }
    };
    Ok((response, Box::new(connection)))
}

async fn connect(authority: &Authority, is_encrypted: bool) -> Result<Box<dyn Stream>, Error> {
    let port = authority.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let host = authority.host();
    let stream = TcpStream::connect(format!("{host}:{port}")).await.map_err(Error::Connect)?;
    if !is_encrypted {
        return Ok(Box::new(stream));
    }
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let invalid = Some("invalid dns name".to_owned());
    let name = ServerName::try_from(name)
        .map_err(|_| Error::DnsError { rcode: invalid, info_code: None })?;
    let connector = TlsConnector::from(tls().await?);
    Ok(Box::new(connector.connect(name, stream).await.map_err(Error::Tls)?))
}

/// The settings of encrypted connections, with the authorities that this machine trusts.
async fn tls() -> Result<Arc<ClientConfig>, Error> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let config = match CONFIG.get() {
        Some(config) => config.clone(),
        // Reads files.
        None => spawn_blocking(|| CONFIG.get_or_init(new_tls).clone()).await.ok().flatten(),
    };
    config.ok_or(Error::TlsCertificateError)
}

fn new_tls() -> Option<Arc<ClientConfig>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::error!("this machine has no certificates to trust: components cannot use HTTPS");
        return None;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// The body of a response, whose parts must follow each other in time.
struct ResponseBody {
    body: Incoming,
    between_parts: Duration,
    waiting: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let deadline = Instant::now() + self.between_parts;
            self.waiting.as_mut().reset(deadline);
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let late = || Some(Err(Error::ConnectionReadTimeout));
        self.waiting.as_mut().poll(context).map(|()| late())
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
