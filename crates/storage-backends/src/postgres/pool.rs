//! A bounded pool of connections, for threads that block.

use std::fmt;
use std::ops::AsyncFnOnce;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage_core::StorageError;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::connection::{Connection, Connector, Session};
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
    /// How many threads wait for one.
    waiting: usize,
}

impl Pool {
    /// Opens the store with the first connection, and creates it if `create` says so.
    ///
    /// # Errors
    /// Those of the connection and of the store.
    pub(super) fn open(
        connector: Arc<Connector>,
        options: &PostgresOptions,
        create: bool,
    ) -> Result<Self, StorageError> {
        let pool = Self {
            connector,
            state: Mutex::default(),
            freed: Condvar::new(),
            size: options.pool_size.max(1),
            statement_timeout: options.statement_timeout,
            total_timeout: options.total_timeout,
        };
        let first = pool.connector.open_store(create);
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
        run: impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T, StorageError> {
        self.repeat(self.deadline(), false, Failure::is_lost_connection, &run)
            .map_err(|failure| failure.into_storage_error(self.address()))
    }

    /// Writes with a connection. A write is repeated only if the server rolled it back. It fails
    /// if the server warns of something, because it does so when a commit no longer waits for
    /// the standby.
    pub(super) fn write<T>(
        &self,
        run: impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.repeat(self.deadline(), true, |_| false, &run)
    }

    fn repeat<T>(
        &self,
        deadline: Instant,
        writes: bool,
        may_repeat: impl Fn(&Failure) -> bool,
        run: &impl AsyncFn(&Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut attempt = 1;
        loop {
            // Without a connection nothing was sent, whatever the server replied.
            let lease = self.lease(deadline);
            let mut lease = lease.map_err(|failure| failure.into_storage_error(self.address()))?;
            match lease.run(run).and_then(|done| match lease.warning() {
                Some(warning) if writes => Err(Failure::Warned(warning)),
                _ => Ok(done),
            }) {
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
                if connection.is_usable() {
                    return Ok(Lease::new(self, connection, deadline));
                }
                state.open -= 1;
            }
            if state.open < self.size {
                state.open += 1;
                drop(state);
                match self.connector.open() {
                    Ok(connection) => return Ok(Lease::new(self, connection, deadline)),
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
                state.waiting += 1;
                let waited = self.freed.wait_timeout(state, left);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
            }
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
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.freed.notify_one();
        }
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

impl<'p> Lease<'p> {
    fn new(pool: &'p Pool, connection: Connection, deadline: Instant) -> Self {
        Self { pool, deadline, connection: Some(connection), in_transaction: false }
    }

    /// Begins a transaction. If it does not [`end`](Self::end), the connection is closed.
    pub(super) fn begin(&mut self, sql: &str) -> Result<(), Failure> {
        self.in_transaction = true;
        self.run(async |session| Ok(session.client.batch_execute(sql).await?))
    }

    /// Ends a transaction that has only read.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.run(async |session| Ok(session.client.batch_execute("rollback").await?))?;
        self.in_transaction = false;
        Ok(())
    }

    /// Makes one request, and closes the connection if there is no reply in time.
    pub(super) fn run<T>(
        &mut self,
        run: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let limit = self.pool.statement_timeout;
        let deadline = self.deadline.min(Instant::now() + limit);
        // If the request does not end, because of the time or of a panic, the connection is
        // dropped, which closes it.
        let Some(mut connection) = self.connection.take() else {
            return Err(Failure::NoReply(limit));
        };
        connection.take_warning();
        let result = connection.run(deadline, run).ok_or(Failure::NoReply(limit))?;
        self.connection = Some(connection);
        result
    }

    /// What the server warned of during the last request.
    fn warning(&mut self) -> Option<String> {
        self.connection.as_mut().and_then(Connection::take_warning)
    }

    /// Lets a long operation go on: each request has its own time limit, and all of them have
    /// none.
    pub(super) fn without_total_limit(&mut self) {
        self.deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().filter(|_| !self.in_transaction);
        self.pool.put_back(connection, 0);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for connection in self.state().idle.drain(..) {
            connection.close();
        }
    }
}
