//! The stream of a connection whose client may stop reading.

use std::io;
use std::pin::Pin;
#[cfg(feature = "serve")]
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
#[cfg(all(feature = "admin", unix))]
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a write may wait for the client: otherwise one that reads nothing would keep its
/// connection forever.
pub(crate) enum Patience {
    /// Until the deadline of the current request.
    #[cfg(feature = "serve")]
    Until(Deadline),
    /// For this time, since something was written last.
    #[cfg(all(feature = "admin", unix))]
    Stalled(Duration),
}

/// When the current request of a connection must have been answered.
#[cfg(feature = "serve")]
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadline(Arc<Mutex<Option<Instant>>>);

#[cfg(feature = "serve")]
impl Deadline {
    pub(crate) fn set(&self, deadline: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
    }

    fn get(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that fails if a write waits too long for the client.
pub(crate) struct TimedStream<S> {
    stream: S,
    patience: Patience,
    /// While a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> TimedStream<S> {
    pub(crate) fn new(stream: S, patience: Patience) -> Self {
        Self { stream, patience, waiting: None }
    }

    /// When a write that waits has waited too long.
    fn deadline(&self) -> Option<Instant> {
        match &self.patience {
            #[cfg(feature = "serve")]
            Patience::Until(deadline) => deadline.get(),
            #[cfg(all(feature = "admin", unix))]
            Patience::Stalled(time) => Some(match &self.waiting {
                Some(waiting) => waiting.deadline(),
                None => Instant::now() + *time,
            }),
        }
    }

    /// Returns what `write` does, or an error if it has waited too long.
    fn write_with<R>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.stream), context) {
            self.waiting = None;
            return Poll::Ready(done);
        }
        let Some(deadline) = self.deadline() else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if waiting.deadline() != deadline {
            waiting.as_mut().reset(deadline);
        }
        match waiting.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_with(context, |stream, context| stream.poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, S::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_with(context, S::poll_shutdown)
    }
}

#[cfg(test)]
#[cfg(all(feature = "admin", unix))]
mod tests {
    use std::future::poll_fn;

    use tokio::net::UnixStream;
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_write_that_waits_too_long_fails() {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().unwrap();
        runtime.block_on(async {
            let (stream, _reads_nothing) = UnixStream::pair().unwrap();
            let patience = Patience::Stalled(Duration::from_millis(20));
            let mut stream = TimedStream::new(stream, patience);
            let failed = loop {
                let write = |context: &mut Context<'_>| {
                    Pin::new(&mut stream).poll_write(context, &[0; 65_536])
                };
                if let Err(error) = poll_fn(write).await {
                    break error;
                }
            };
            assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        });
    }
}
