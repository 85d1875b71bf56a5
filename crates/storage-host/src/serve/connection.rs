//! A connection of a client.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::service::Service;
use crate::timed_stream::{Deadline, Patience, TimedStream};

/// Serves a connection until it ends. `permit` is held until then.
pub(super) fn start(
    service: &Arc<Service>,
    stream: TcpStream,
    watcher: Watcher,
    permit: Option<OwnedSemaphorePermit>,
) {
    // Otherwise a small part of a response waits until the client has acknowledged the part
    // before. If this fails, it does.
    let _ = stream.set_nodelay(true);
    let deadline = Deadline::default();
    let stream = TokioIo::new(TimedStream::new(stream, Patience::Until(deadline.clone())));
    let mut cut = service.cut.subscribe();
    let settings = &service.settings;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(settings.header_bytes);
    let service = Arc::clone(service);
    let answer = service_fn(move |request| {
        let (service, deadline) = (Arc::clone(&service), deadline.clone());
        async move { Ok::<_, Infallible>(service.answer(request, &deadline).await) }
    });
    let connection = watcher.watch(builder.serve_connection(stream, answer));
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            ended = connection => {
                if let Err(error) = ended {
                    // A client that has gone, or was too slow.
                    tracing::debug!(%error, "a connection ended early");
                }
            }
            _ = cut.wait_for(|cut| *cut) => {}
        }
    });
}
