//! Standard output and error of a component, whose lines go to the log.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::component_chain::ComponentChain;
use crate::guest::logging::{StandardStream, log_line};

/// The longest line that is logged as one.
const LINE_BYTES: usize = 4_096;

/// The most bytes of one write.
const WRITE_BYTES: usize = 65_536;

/// A standard stream of an instance.
pub(super) struct LoggedStream(Arc<Mutex<Lines>>);

impl LoggedStream {
    pub(super) fn new(chain: &Arc<ComponentChain>, stream: StandardStream) -> Self {
        let lines = Lines { chain: Arc::clone(chain), stream, begun: Vec::new() };
        Self(Arc::new(Mutex::new(lines)))
    }
}

/// Bytes of which whole lines are logged, and the rest when the instance ends.
struct Lines {
    chain: Arc<ComponentChain>,
    stream: StandardStream,
    begun: Vec<u8>,
}

impl Lines {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = LINE_BYTES.saturating_sub(self.begun.len()).min(bytes.len());
            let (next, _) = bytes.split_at(room);
            let end = next.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.unwrap_or(room));
            self.begun.extend_from_slice(line);
            match end {
                Some(_) => {
                    self.log();
                    bytes = rest.strip_prefix(b"\n").unwrap_or(rest);
                }
                None => {
                    if self.begun.len() >= LINE_BYTES {
                        self.log();
                    }
                    bytes = rest;
                }
            }
        }
    }

    fn log(&mut self) {
        let text = String::from_utf8_lossy(&self.begun);
        let text = text.trim_end_matches('\r');
        if !text.is_empty() {
            log_line(&self.chain, self.stream, text);
        }
        self.begun.clear();
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.log();
    }
}

impl IsTerminal for LoggedStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LoggedStream {
    // Used by WASI 0.3 only, which this server does not provide.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl Pollable for LoggedStream {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl OutputStream for LoggedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
