//! One connection: opening it, and what is set up on it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future;
use storage_core::{Durability, StorageError};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::error::{Failure, unexpected};
use super::options::{Password, PostgresOptions, TlsMode};
use super::revisions;
use super::runtime::Spawner;
use super::schema::{self, FORMAT};
use super::statements::Statements;
use super::tls;

/// What moves the bytes of a connection.
pub(super) type Driver =
    tokio_postgres::Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// How to open connections to one store.
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    settings: String,
    pub(super) connect_timeout: Duration,
    pub(super) address: Address,
    pub(super) read_only: bool,
    spawner: Spawner,
    /// Set by the first connection.
    store_id: OnceLock<String>,
}

/// A connection with its prepared statements.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) statements: Statements,
    driver: AbortHandle,
}

impl Connection {
    /// Closes the connection at once. What it is waiting for may go on in the server.
    pub(super) fn abandon(self) {
        self.driver.abort();
    }
}

impl Connector {
    pub(super) fn new(
        options: &PostgresOptions,
        read_only: bool,
        spawner: Spawner,
    ) -> Result<Self, StorageError> {
        options.check()?;
        let mut config = Config::new();
        config
            .host(&options.host)
            .port(options.port)
            .user(&options.user)
            .dbname(&options.database)
            .application_name("storage-host")
            .connect_timeout(options.connect_timeout)
            // A connection that a firewall has dropped is noticed although nothing is sent.
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
        Ok(Self {
            config,
            tls: tls::connector(options)?,
            settings: settings(options, read_only),
            connect_timeout: options.connect_timeout,
            address: Address::of(options),
            read_only,
            spawner,
            store_id: OnceLock::new(),
        })
    }

    /// The store's id; empty before the first connection.
    pub(super) fn store_id(&self) -> &str {
        self.store_id.get().map_or("", String::as_str)
    }

    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Opens the first connection, and creates the store if `create` says so.
    pub(super) async fn open_store(self: Arc<Self>, create: bool) -> Result<Connection, Failure> {
        self.within_timeout(async {
            let (client, driver) = self.connect().await?;
            client.batch_execute(&self.settings).await?;
            let store_id = schema::open(&client, &self.address, create).await?;
            if !self.read_only {
                revisions::advance(&client).await?;
            }
            // Only one connection opens the store.
            let _ = self.store_id.set(store_id);
            let statements = Statements::prepare(&client).await?;
            Ok(Connection { client, statements, driver })
        })
        .await
    }

    /// Opens another connection.
    pub(super) async fn open(self: Arc<Self>) -> Result<Connection, Failure> {
        self.within_timeout(async {
            let (client, driver) = self.connect().await?;
            let (_, statements) = future::try_join(self.set_up(&client), async {
                Ok(Statements::prepare(&client).await?)
            })
            .await?;
            Ok(Connection { client, statements, driver })
        })
        .await
    }

    /// Opens a connection for notices, whose driver the caller runs.
    pub(super) async fn open_plain(&self) -> Result<(Client, Driver), Failure> {
        self.within_timeout(async { Ok(self.config.connect(self.tls.clone()).await?) }).await
    }

    /// Connects, and moves the bytes in the background.
    async fn connect(&self) -> Result<(Client, AbortHandle), Failure> {
        let (client, driver) = self.config.connect(self.tls.clone()).await?;
        let driver = self.spawner.spawn(async move {
            // The client's requests fail with the error.
            let _ = driver.await;
        });
        Ok((client, driver))
    }

    async fn within_timeout<T>(
        &self,
        open: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match timeout(self.connect_timeout, open).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::NoConnection(self.connect_timeout)),
        }
    }

    /// Applies the settings, and compares the store and the server with the known ones.
    async fn set_up(&self, client: &Client) -> Result<(), Failure> {
        client.batch_execute(&self.settings).await?;
        let rows =
            client.simple_query("select format, store_id, server = server_v1() from store").await?;
        let row = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |n: usize| row.and_then(|row| row.try_get(n).ok().flatten());
        let (Some(format), Some(store_id)) = (column(0), column(1)) else {
            return Err(unexpected(&self.address, "no store").into());
        };
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
            revisions::advance(client).await?;
        }
        Ok(())
    }
}

/// What is set on every connection.
fn settings(options: &PostgresOptions, read_only: bool) -> String {
    let schema = &options.schema;
    // The server gives up a little earlier than the client, so that the outcome is known.
    let server_limit = options.statement_timeout.mul_f32(0.9).as_millis().max(1);
    // A weaker setting of the server is raised; a stronger one stays.
    let synchronous_commit = match options.durability {
        Durability::Os => "set synchronous_commit = off".to_owned(),
        _ => "select set_config('synchronous_commit', 'on', false) \
              where current_setting('synchronous_commit') not in ('on', 'remote_apply')"
            .to_owned(),
    };
    let read_only = if read_only { "on" } else { "off" };
    format!(
        "set search_path = {schema}, pg_temp;
         {synchronous_commit};
         set statement_timeout = {server_limit};
         set lock_timeout = {server_limit};
         set default_transaction_isolation = 'read committed';
         set default_transaction_read_only = {read_only};
         set client_min_messages = error;
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
