//! What is logged.

use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Level};

/// Collects what is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Runs `action` and returns what it logged.
    pub(crate) fn of(action: impl FnOnce()) -> String {
        Self::at(Level::INFO, action)
    }

    /// The same, up to this level and without times.
    pub(crate) fn at(level: Level, action: impl FnOnce()) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_max_level(level)
            .without_time()
            .with_ansi(false)
            .finish();
        Self::alone(|| tracing::subscriber::with_default(subscriber, action));
        log.text()
    }

    /// Runs what has a subscriber of its own, one at a time.
    ///
    /// `tracing` remembers which events no subscriber wants. While there is only one, it asks that
    /// of the thread that logs an event first, and other tests have none. So there is another one.
    pub(crate) fn alone(action: impl FnOnce()) {
        static ALONE: Mutex<()> = Mutex::new(());
        static OTHER: OnceLock<Dispatch> = OnceLock::new();
        OTHER.get_or_init(|| Dispatch::new(NoSubscriber::default()));
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        action();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
