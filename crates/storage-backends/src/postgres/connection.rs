//! One connection: opening it, and what is set up on it.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future;
use storage_core::{Durability, StorageError};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::{Failure, unexpected};
use super::options::PostgresOptions;
use super::parameters::Bytes;
use super::revisions;
use super::schema::{self, FORMAT};
use super::statements::{Names, Statements};
use super::transport::{Stream, Transport, Wire, drive};
use crate::password::Password;
use crate::tcp::{self, ConnectError};
use crate::tls::{self, TlsMode};

/// How long an idle connection is used again. A firewall may forget older ones.
const MAX_IDLE: Duration = Duration::from_secs(60);

/// A row if a commit of this user waits for the standby. Opening a store commits where revisions
/// continue.
const WAITS_FOR_STANDBY: &str = "select 1 from pg_stat_activity \
    where wait_event = 'SyncRep' and datname = current_database() and usename = current_user \
    and application_name = current_setting('application_name')";

/// A connection for notices, whose bytes a tokio runtime moves.
pub(super) type NoticeDriver =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// How to open connections to one store.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    settings: String,
    pub(super) names: Arc<Names>,
    host: String,
    port: u16,
    pub(super) connect_timeout: Duration,
    statement_timeout: Duration,
    pub(super) address: Address,
    pub(super) read_only: bool,
    /// Set by the first connection.
    store_id: OnceLock<String>,
}

/// What a request uses: the client and its prepared statements.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    pub(super) names: Arc<Names>,
}

impl Session {
    /// The last parameter of every statement.
    pub(super) fn token(&self) -> Bytes<'_> {
        Bytes::from(self.names.token.as_str())
    }
}

/// A connection.
pub(super) struct Connection {
    session: Session,
    transport: Transport,
    last_used: Instant,
}

impl Connection {
    /// Makes a request. Returns `None` if it has not ended at the deadline; then the connection
    /// must not be used again.
    pub(super) fn run<T>(
        &mut self,
        deadline: Instant,
        request: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        let result = self.transport.run(deadline, request(&self.session))?;
        self.last_used = Instant::now();
        Some(match (result, self.transport.take_error()) {
            // The connection knows why it has ended, and the request does not.
            (Err(Failure::Postgres(error)), Some(cause)) if error.is_closed() => Err(cause.into()),
            (result, _) => result,
        })
    }

    /// What the server warned of since the last call of this function.
    pub(super) fn take_warning(&mut self) -> Option<String> {
        self.transport.take_warning()
    }

    /// Whether it can be used after a time of idleness.
    pub(super) fn is_usable(&self) -> bool {
        self.transport.is_open() && self.last_used.elapsed() < MAX_IDLE
    }

    /// Closes it in an orderly way.
    pub(super) fn close(self) {
        drop(self.session);
        self.transport.close();
    }
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions, read_only: bool) -> Result<Self, StorageError> {
        options.check()?;
        let mut config = Config::new();
        config
            .host(&options.host)
            .port(options.port)
            .user(&options.user)
            .dbname(&options.database)
            // What the server shows of its connections.
            .application_name(format!("storage-host {}", options.schema))
            .connect_timeout(options.connect_timeout)
            // A lost connection is noticed although nothing is sent.
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .ssl_mode(match options.tls {
                TlsMode::Disable => SslMode::Disable,
                TlsMode::Prefer => SslMode::Prefer,
                TlsMode::Require | TlsMode::VerifyFull => SslMode::Require,
            });
        if let Some(password) = options.password.as_ref().map(Password::as_str) {
            config.password(password);
        }
        let names = Names::new(&options.schema, options.durability);
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls::client_config(
                options.tls,
                options.root_certificates.as_deref(),
            )?),
            settings: settings(options, &names, read_only),
            names: Arc::new(names),
            host: options.host.clone(),
            port: options.port,
            connect_timeout: options.connect_timeout,
            statement_timeout: options.statement_timeout,
            address: Address::of(options),
            read_only,
            store_id: OnceLock::new(),
        })
    }

    /// The store's id; empty before the first connection.
    pub(super) fn store_id(&self) -> &str {
        self.store_id.get().map_or("", String::as_str)
    }

    /// Opens the first connection, and creates the store if `create` says so.
    pub(super) fn open_store(&self, create: bool) -> Result<Connection, Failure> {
        self.connect(async |client| {
            client.batch_execute(&self.settings).await?;
            let store_id = schema::open(client, &self.address, &self.names, create).await?;
            if !self.read_only {
                revisions::advance(client, &self.names).await?;
            }
            // Only one connection opens the store.
            let _ = self.store_id.set(store_id);
            Ok(Statements::prepare(client, &self.names).await?)
        })
    }

    /// Whether there is a store. Changes nothing.
    pub(super) fn store_exists(&self) -> Result<bool, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let (client, mut transport) = self.log_in(deadline)?;
        let look = async {
            client.batch_execute(&self.settings).await?;
            schema::exists(&client, &self.address, &self.names).await
        };
        let late = || Failure::NoConnection(self.connect_timeout);
        let exists = transport.run(deadline, look).ok_or_else(late)??;
        drop(client);
        transport.close();
        Ok(exists)
    }

    /// Opens another connection.
    pub(super) fn open(&self) -> Result<Connection, Failure> {
        self.connect(async |client| {
            let prepare = async { Ok(Statements::prepare(client, &self.names).await?) };
            let (_, statements) = future::try_join(self.set_up(client), prepare).await?;
            Ok(statements)
        })
    }

    /// Opens a connection for notices, whose driver the caller runs.
    pub(super) async fn open_for_notices(&self) -> Result<(Client, NoticeDriver), Failure> {
        match timeout(self.connect_timeout, self.config.connect(self.tls.clone())).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Failure::NoConnection(self.connect_timeout)),
        }
    }

    /// Connects, logs in, and sets the connection up.
    fn connect(
        &self,
        set_up: impl AsyncFnOnce(&Client) -> Result<Statements, Failure>,
    ) -> Result<Connection, Failure> {
        let deadline = Instant::now() + self.connect_timeout;
        let (client, mut transport) = self.log_in(deadline)?;
        let Some(statements) = transport.run(deadline, set_up(&client)) else {
            return Err(self.why_late());
        };
        Ok(Connection {
            session: Session { client, statements: statements?, names: Arc::clone(&self.names) },
            transport,
            last_used: Instant::now(),
        })
    }

    fn log_in(&self, deadline: Instant) -> Result<(Client, Transport), Failure> {
        let late = || Failure::NoConnection(self.connect_timeout);
        let socket = tcp::connect(&self.host, self.port, deadline);
        let socket = socket.map_err(|error| match error {
            ConnectError::Refused(error) => Failure::Connect(error),
            ConnectError::Late => late(),
        })?;
        let wire = Wire::new(socket).map_err(Failure::Connect)?;
        let wire = Arc::new(wire);
        let stream = Stream::new(&wire, self.statement_timeout).map_err(Failure::Connect)?;
        let mut tls = self.tls.clone();
        let tls =
            MakeTlsConnect::<Stream>::make_tls_connect(&mut tls, &self.host).map_err(|error| {
                Failure::Connect(io::Error::new(io::ErrorKind::InvalidInput, error))
            })?;
        let (client, driver) = drive(&wire, deadline, self.config.connect_raw(stream, tls), |_| {})
            .ok_or_else(late)??;
        Ok((client, Transport::new(wire, driver)))
    }

    /// Why a connection was not set up in time. Asks the server with another connection.
    fn why_late(&self) -> Failure {
        let late = Failure::NoConnection(self.connect_timeout);
        let deadline = Instant::now() + self.connect_timeout;
        let Ok((client, mut transport)) = self.log_in(deadline) else { return late };
        match transport.run(deadline, client.simple_query(WAITS_FOR_STANDBY)) {
            Some(Ok(rows)) if rows.iter().any(|m| matches!(m, SimpleQueryMessage::Row(_))) => {
                Failure::NoStandby(self.connect_timeout)
            }
            _ => late,
        }
    }

    /// Applies the settings, and compares the store and the server with the known ones.
    async fn set_up(&self, client: &Client) -> Result<(), Failure> {
        client.batch_execute(&self.settings).await?;
        let read = "select format, store_id, server = @.server_v1(), \
            current_setting('storage.session', true) = '#' from @.store";
        let rows = client.simple_query(&self.names.apply(read)).await?;
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |n: usize| row.and_then(|row| row.try_get(n).ok().flatten());
        let (Some(format), Some(store_id)) = (column(0), column(1)) else {
            return Err(unexpected(&self.address, "no store").into());
        };
        if column(3) != Some("t") {
            return Err(Failure::NotOurSession);
        }
        if store_id != self.store_id() {
            let detail = format!(
                "the store in the schema {:?} of {} was replaced; open it again",
                self.address.schema, self.address
            );
            return Err(StorageError::Unavailable { key: None, detail }.into());
        }
        schema::check_format(format.parse().unwrap_or(FORMAT + 1), &self.address)?;
        let same_server = column(2) == Some("t");
        if !same_server && !self.read_only {
            revisions::advance(client, &self.names).await?;
        }
        Ok(())
    }
}

/// What is set on every connection.
fn settings(options: &PostgresOptions, names: &Names, read_only: bool) -> String {
    let token = &names.token;
    // The server gives up a little earlier than the client, so that the outcome is known.
    let server_limit = options.statement_timeout.mul_f32(0.9).as_millis().max(1);
    // A weaker setting of the server is raised; a stronger one stays.
    let synchronous_commit = match options.durability {
        Durability::Os => "set synchronous_commit = off".to_owned(),
        _ => "select set_config('synchronous_commit', 'on', false) \
              where current_setting('synchronous_commit') not in ('on', 'remote_apply')"
            .to_owned(),
    };
    // A server that is read-only by default stays so.
    let read_only = if read_only { "set default_transaction_read_only = on" } else { "" };
    format!(
        "set storage.session = '{token}';
         set search_path = pg_catalog, pg_temp;
         {synchronous_commit};
         set statement_timeout = {server_limit};
         set lock_timeout = {server_limit};
         set default_transaction_isolation = 'read committed';
         {read_only};
         set client_min_messages = warning;
         select set_config('client_connection_check_interval', '1s', false)
             where current_setting('server_version_num')::int >= 140000;
         set jit = off;
         set max_parallel_workers_per_gather = 0;
         set plan_cache_mode = force_generic_plan;
         set enable_seqscan = off;
         set enable_bitmapscan = off;
         set enable_hashjoin = off;
         set enable_mergejoin = off;
         set enable_sort = off"
    )
}
