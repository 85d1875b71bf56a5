//! How messages name a server.

use std::fmt;

use super::options::PostgresOptions;

/// The server, database and user of a store, without the password.
#[derive(Debug, Clone)]
pub(super) struct Address {
    host: String,
    port: u16,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) schema: String,
}

impl Address {
    pub(super) fn of(options: &PostgresOptions) -> Self {
        Self {
            host: options.host.clone(),
            port: options.port,
            user: options.user.clone(),
            database: options.database.clone(),
            schema: options.schema.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        match host.contains(':') {
            true => write!(f, "PostgreSQL at [{host}]:{}", self.port),
            false => write!(f, "PostgreSQL at {host}:{}", self.port),
        }
    }
}
