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
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputGone {
    /// What the command ends with.
    pub(super) exit_code: u8,
}

impl fmt::Display for OutputGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads its output any more")
    }
}

impl std::error::Error for OutputGone {}

/// Output of this process for a component, which ends when the reader is gone: one that
/// ignores the errors of its writes would go on forever.
pub(super) struct GuestOutput<S> {
    pub(super) stream: S,
    pub(super) gone: OutputGone,
}

impl<S> GuestOutput<S> {
    /// Standard output: its reader has seen enough, as for every other command.
    pub(super) fn output(stream: S) -> Self {
        Self { stream, gone: OutputGone { exit_code: 0 } }
    }

    /// Standard error: what the component had to say is lost.
    pub(super) fn error(stream: S) -> Self {
        Self { stream, gone: OutputGone { exit_code: 1 } }
    }
}

impl<S: IsTerminal> IsTerminal for GuestOutput<S> {
    fn is_terminal(&self) -> bool {
        self.stream.is_terminal()
    }
}

impl<S: StdoutStream> StdoutStream for GuestOutput<S> {
    // Only WASI 0.3 asks for it, which this host does not have.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        self.stream.async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(EndingStream { stream: self.stream.p2_stream(), gone: self.gone })
    }
}

struct EndingStream {
    stream: Box<dyn OutputStream>,
    gone: OutputGone,
}

impl EndingStream {
    /// Ends the component where its stream is closed.
    fn end_if_closed<R>(&self, result: StreamResult<R>) -> StreamResult<R> {
        result.map_err(|error| match error {
            StreamError::Closed => StreamError::Trap(wasmtime::Error::new(self.gone)),
            other => other,
        })
    }
}

impl Pollable for EndingStream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        self.stream.ready()
    }
}

impl OutputStream for EndingStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let result = self.stream.write(bytes);
        self.end_if_closed(result)
    }

    fn flush(&mut self) -> StreamResult<()> {
        let result = self.stream.flush();
        self.end_if_closed(result)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let result = self.stream.check_write();
        self.end_if_closed(result)
    }
}
