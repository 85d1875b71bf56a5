//! A component's standard output and error.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use storage_host::wasmtime;
use storage_host::wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use storage_host::wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use tokio::io::AsyncWrite;

/// What a component ends with when nobody reads what it writes any more.
#[derive(Debug)]
pub(super) struct OutputGone;

impl fmt::Display for OutputGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads its output any more")
    }
}

impl std::error::Error for OutputGone {}

/// Output of this process for a component, which ends when the reader is gone: one that
/// ignores the errors of its writes would go on forever.
pub(super) struct GuestOutput<S>(pub(super) S);

impl<S: IsTerminal> IsTerminal for GuestOutput<S> {
    fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl<S: StdoutStream> StdoutStream for GuestOutput<S> {
    // Only WASI 0.3 asks for it, which this host does not have.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        self.0.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(EndingStream(self.0.p2_stream()))
    }
}

struct EndingStream(Box<dyn OutputStream>);

/// Ends the component where its stream is closed.
fn end_if_closed<R>(result: StreamResult<R>) -> StreamResult<R> {
    result.map_err(|error| match error {
        StreamError::Closed => StreamError::Trap(wasmtime::Error::new(OutputGone)),
        other => other,
    })
}

impl Pollable for EndingStream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.0.ready()
    }
}

impl OutputStream for EndingStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        end_if_closed(self.0.write(bytes))
    }

    fn flush(&mut self) -> StreamResult<()> {
        end_if_closed(self.0.flush())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        end_if_closed(self.0.check_write())
    }
}
