//! The standard output and error of a component.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use storage_host::wasmtime;
use storage_host::wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use storage_host::wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use tokio::io::AsyncWrite;

/// Ends a component whose output was closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct OutputGone {
    /// The exit code of the command.
    pub(super) exit_code: u8,
}

impl fmt::Display for OutputGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its output was closed")
    }
}

impl std::error::Error for OutputGone {}

/// Output of this process for a component. Ends the component when it is closed: one that
/// ignores write errors would run forever.
pub(super) struct GuestOutput<S> {
    pub(super) stream: S,
    pub(super) gone: OutputGone,
}

impl<S> GuestOutput<S> {
    /// Standard output. Closing it is success, as for every other command.
    pub(super) fn output(stream: S) -> Self {
        Self { stream, gone: OutputGone { exit_code: 0 } }
    }

    /// Standard error. Closing it loses messages, which is a failure.
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
    // Used by WASI 0.3 only, which this host does not provide.
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
    /// Turns a closed stream into a trap.
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
