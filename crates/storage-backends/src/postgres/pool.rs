//! A bounded pool of connections, for threads that block.

use std::fmt;
use std::ops::AsyncFnOnce;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage_core::StorageError;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::blocking;
use super::connection::{Connection, Connector};
use super::error::Failure;
use super::options::PostgresOptions;

/// How often a request is made that other transactions collide with, or whose connection
/// turns out to be closed.
const MAX_ATTEMPTS: u32 = 4;

/// Connections that are not in use, and how many there are.
pub(super) struct Pool {
    connector: Arc<Connector>,
    state: Mutex<State>,
    /// Signalled when a connection becomes idle or is closed.
    freed: Condvar,
    size: usize,
    statement_timeout: Duration,
    total_timeout: Duration,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    /// All connections: idle, in use, and those that are being opened.
    open: usize,
}

impl Pool {
    /// Opens the store with the first connection, and creates it if `create` says so.
    ///
    /// # Errors
    /// Those of the connection and of the store.
    pub(super) fn open(
        connector: Connector,
        options: &PostgresOptions,
        create: bool,
    ) -> Result<Self, StorageError> {
        let pool = Self {
            connector: Arc::new(connector),
            state: Mutex::default(),
            freed: Condvar::new(),
            size: options.pool_size.max(1),
            statement_timeout: options.statement_timeout,
            total_timeout: options.total_timeout,
        };
        let opening = Arc::clone(&pool.connector).open_store(create);
        let first = pool.connect(pool.deadline(), opening);
        let first = first.map_err(|failure| failure.into_storage_error(pool.address()))?;
        pool.put_back(Some(first), 1);
        Ok(pool)
    }

    pub(super) fn address(&self) -> &Address {
        &self.connector.address
    }

    pub(super) fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// When a call that begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.total_timeout
    }

    /// Reads with a connection. Repeats the read if its connection was closed.
    pub(super) fn read<T>(
        &self,
        run: impl AsyncFn(&Connection) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        self.repeat(self.deadline(), Failure::is_lost_connection, &run)
            .map_err(|failure| failure.into_storage_error(self.address()))
    }

    /// Writes with a connection. A write is repeated only if the server rolled it back.
    pub(super) fn write<T>(
        &self,
        run: impl AsyncFn(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.repeat(self.deadline(), |_| false, &run)
    }

    fn repeat<T>(
        &self,
        deadline: Instant,
        may_repeat: impl Fn(&Failure) -> bool,
        run: &impl AsyncFn(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut attempt = 1;
        loop {
            let mut lease = self.lease(deadline)?;
            match lease.run(run) {
                Err(failure)
                    if attempt < MAX_ATTEMPTS
                        && Instant::now() < deadline
                        && (failure.is_collision() || may_repeat(&failure)) =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Takes a connection for one call, which ends at the deadline.
    pub(super) fn lease(&self, deadline: Instant) -> Result<Lease<'_>, Failure> {
        let mut state = self.state();
        loop {
            while let Some(connection) = state.idle.pop() {
                if !connection.client.is_closed() {
                    return Ok(Lease {
                        pool: self,
                        deadline,
                        connection: Some(connection),
                        in_transaction: false,
                    });
                }
                state.open -= 1;
            }
            if state.open < self.size {
                state.open += 1;
                drop(state);
                match self.connect(deadline, Arc::clone(&self.connector).open()) {
                    Ok(connection) => {
                        return Ok(Lease {
                            pool: self,
                            deadline,
                            connection: Some(connection),
                            in_transaction: false,
                        });
                    }
                    Err(failure) => {
                        self.put_back(None, 0);
                        state = self.state();
                        let is_full = failure.code() == Some(&SqlState::TOO_MANY_CONNECTIONS);
                        // Another call's connection will become free.
                        if !is_full || state.open == 0 {
                            return Err(failure);
                        }
                    }
                }
            }
            if state.idle.is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Failure::AllInUse(self.total_timeout));
                }
                let waited = self.freed.wait_timeout(state, left);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn connect(
        &self,
        deadline: Instant,
        opening: impl Future<Output = Result<Connection, Failure>> + Send + 'static,
    ) -> Result<Connection, Failure> {
        // It has a time limit of its own.
        let opened = self.connector.spawner().run(opening);
        match blocking::wait_until(deadline, opened) {
            Some(Ok(opened)) => opened,
            Some(Err(_)) | None => Err(Failure::NoConnection(self.connector.connect_timeout)),
        }
    }

    /// Makes a connection idle, or forgets one that was closed.
    fn put_back(&self, connection: Option<Connection>, opened: usize) {
        let mut state = self.state();
        state.open += opened;
        match connection {
            Some(connection) => state.idle.push(connection),
            None => state.open -= 1,
        }
        drop(state);
        self.freed.notify_one();
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("address", self.address())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// A connection in use. Returned to the pool when it is dropped, unless its last request did
/// not end.
pub(super) struct Lease<'p> {
    pool: &'p Pool,
    deadline: Instant,
    connection: Option<Connection>,
    /// Whether a transaction was begun and has not ended.
    in_transaction: bool,
}

impl Lease<'_> {
    /// Begins a transaction. If it does not [`end`](Self::end), the connection is closed.
    pub(super) fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        self.in_transaction = true;
        self.run(async |connection| Ok(connection.client.batch_execute(sql).await?))
    }

    /// Ends a transaction that has only read.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.run(async |connection| Ok(connection.client.batch_execute("rollback").await?))?;
        self.in_transaction = false;
        Ok(())
    }

    /// Makes one request, and closes the connection if there is no reply in time.
    pub(super) fn run<T>(
        &mut self,
        run: impl AsyncFnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let limit = self.pool.statement_timeout;
        let deadline = self.deadline.min(Instant::now() + limit);
        // If the request does not end, because of the time or of a panic, the connection is not
        // put back.
        let Some(connection) = self.connection.take() else {
            return Err(Failure::NoReply(limit));
        };
        let guard = Abandon(Some(connection));
        let result = match &guard.0 {
            Some(connection) => blocking::wait_until(deadline, run(connection)),
            None => None,
        };
        match result {
            Some(result) => {
                self.connection = guard.keep();
                result
            }
            None => Err(Failure::NoReply(limit)),
        }
    }

    /// Lets a long operation go on: each request has its own time limit, and all of them have
    /// none.
    pub(super) fn without_total_limit(&mut self) {
        self.deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let connection = match self.connection.take() {
            Some(connection) if self.in_transaction => {
                connection.abandon();
                None
            }
            connection => connection.filter(|one| !one.client.is_closed()),
        };
        self.pool.put_back(connection, 0);
    }
}

/// Closes a connection when it is dropped.
struct Abandon(Option<Connection>);

impl Abandon {
    fn keep(mut self) -> Option<Connection> {
        self.0.take()
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.abandon();
        }
    }
}
