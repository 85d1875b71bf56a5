//! The server of the tests, and a schema for each of them.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use super::*;

/// Names a server: `postgres://USER@HOST:PORT/DB`.
const VARIABLE: &str = "STORAGE_TEST_POSTGRES_URL";

/// Whether the watcher of a host is told of its commits of checks only.
pub(crate) const REPORTS_CHECKS: bool = true;

/// Whether [`cut_notices`](TestSchema::cut_notices) can meet a write.
pub(crate) const CUTS_WRITERS: bool = true;

/// A store that several hosts open; `None` without a server, which is reported.
pub(crate) fn shared_store() -> Option<TestSchema> {
    TestSchema::new()
}

/// A schema, which is dropped at the end.
pub(crate) struct TestSchema {
    pub(crate) options: PostgresOptions,
    /// Of the variable; a server that wants none ignores it.
    password: Vec<u8>,
}

impl TestSchema {
    /// A schema that does not exist yet; `None` without a server, which is reported.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(url) = std::env::var(VARIABLE) else {
            eprintln!("SKIPPED: {VARIABLE} names no PostgreSQL server");
            return None;
        };
        let config: tokio_postgres::Config = url.parse().unwrap();
        let host = match &config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            other => panic!("{other:?} is not a TCP address"),
        };
        let user = config.get_user().unwrap_or("postgres");
        let mut options =
            PostgresOptions::new(host, user, config.get_dbname().unwrap_or("postgres"));
        options.port = config.get_ports().first().copied().unwrap_or(5432);
        let password = config.get_password().unwrap_or_default().to_vec();
        if !password.is_empty() {
            options = options.with_password(String::from_utf8(password.clone()).unwrap());
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{number}", std::process::id());
        Some(Self { options: options.with_schema(schema).with_pool_size(8), password })
    }

    pub(crate) fn open(&self) -> PostgresStorage {
        PostgresStorage::open(&self.options).unwrap()
    }

    /// Runs statements in the schema, past the store.
    pub(crate) fn sql(&self, statements: &str) {
        self.with_client(async |client| client.batch_execute(statements).await.unwrap());
    }

    /// The statement that ends the connections of all stores in the schema, and waits for it.
    pub(crate) fn cut_connections(&self) -> String {
        let name = &self.options.schema;
        format!(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity \
             where application_name = 'storage-host {name}'"
        )
    }

    /// Cuts the connections of all stores in the schema, also those that listen.
    pub(crate) fn cut_notices(&self) {
        self.sql(&self.cut_connections());
    }

    pub(crate) fn with_client<T>(&self, run: impl AsyncFnOnce(&Client) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = &self.options;
        let mut config = tokio_postgres::Config::new();
        config.host(&options.host).port(options.port).user(&options.user).dbname(&options.database);
        config.password(&self.password);
        runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.unwrap();
            let connection = tokio::spawn(connection);
            let path = format!("set search_path = \"{}\"", options.schema);
            client.batch_execute(&path).await.unwrap();
            let result = run(&client).await;
            drop(client);
            connection.await.unwrap().unwrap();
            result
        })
    }
}

impl Drop for TestSchema {
    fn drop(&mut self) {
        self.sql(&format!("drop schema if exists \"{}\" cascade", self.options.schema));
    }
}
