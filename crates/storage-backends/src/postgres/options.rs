//! Options for opening a store.

use std::path::PathBuf;
use std::time::Duration;

use storage_core::{Durability, StorageError};

use crate::password::Password;
use crate::tls::TlsMode;

/// The longest name that PostgreSQL does not cut off, in bytes.
const MAX_SCHEMA_BYTES: usize = 63;

/// Where a [`PostgresStorage`](super::PostgresStorage) is, and how to open it.
///
/// ```
/// use storage_backends::PostgresOptions;
///
/// let options = PostgresOptions::new("db.example", "storage", "apps")
///     .with_schema("notes")
///     .with_password("secret");
/// assert!(!format!("{options:?}").contains("secret"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// The name or address of the server.
    pub host: String,
    /// The port of the server. Default: 5432.
    pub port: u16,
    /// The user to connect as.
    pub user: String,
    /// The password of the user, if the server wants one.
    pub password: Option<Password>,
    /// The database.
    pub database: String,
    /// The schema that holds the store: lower-case letters, digits and underscores. Default:
    /// `storage`.
    pub schema: String,
    /// The maximum number of connections for calls; one more carries notices. Default: 16.
    pub pool_size: usize,
    /// The maximum time to open a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// The maximum time from a request to its reply. Default: 10 s.
    pub statement_timeout: Duration,
    /// The maximum time of a call, with waiting for a connection and retries. Default: 30 s.
    pub total_timeout: Duration,
    /// What an acknowledged write survives: [`Durability::Sync`], or [`Durability::Os`] for
    /// commits that do not wait for the server's disk or its standby. Then a crash of the
    /// server loses the writes of the last second.
    pub durability: Durability,
    /// Whether connections are encrypted.
    pub tls: TlsMode,
    /// A PEM file with the certificates of authorities to trust instead of those of the
    /// system.
    pub root_certificates: Option<PathBuf>,
}

impl PostgresOptions {
    /// The schema, unless another one is set.
    pub const DEFAULT_SCHEMA: &str = "storage";

    /// The default options for a database.
    pub fn new(
        host: impl Into<String>,
        user: impl Into<String>,
        database: impl Into<String>,
    ) -> Self {
        Self {
            host: host.into(),
            port: 5432,
            user: user.into(),
            password: None,
            database: database.into(),
            schema: Self::DEFAULT_SCHEMA.to_owned(),
            pool_size: 16,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            durability: Durability::Sync,
            tls: TlsMode::default(),
            root_certificates: None,
        }
    }

    /// Sets the port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Password>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the schema.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the maximum number of connections for calls; at least one is used.
    #[must_use]
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// Sets the maximum time to open a connection.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the maximum time from a request to its reply.
    #[must_use]
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets the maximum time of a call.
    #[must_use]
    pub fn with_total_timeout(mut self, timeout: Duration) -> Self {
        self.total_timeout = timeout;
        self
    }

    /// Sets the durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets whether connections are encrypted.
    #[must_use]
    pub fn with_tls(mut self, tls: TlsMode) -> Self {
        self.tls = tls;
        self
    }

    /// Sets the file of certificates to trust.
    #[must_use]
    pub fn with_root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(file.into());
        self
    }

    /// Whether a text can be the name of a schema: 1 to 63 lower-case letters, digits and
    /// underscores, which neither begin with a digit nor with `pg_`.
    pub fn is_schema(text: &str) -> bool {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (1..=MAX_SCHEMA_BYTES).contains(&text.len())
            && text.chars().all(allowed)
            && !text.starts_with(|c: char| c.is_ascii_digit())
            && !text.starts_with("pg_")
    }

    /// Refuses options that the store does not support.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`].
    pub(super) fn check(&self) -> Result<(), StorageError> {
        if self.durability == Durability::Relaxed {
            return Err(StorageError::Unsupported(
                "a PostgreSQL store does not support durability \"relaxed\"; use \"sync\" or \"os\""
                    .into(),
            ));
        }
        if !Self::is_schema(&self.schema) {
            return Err(StorageError::Unsupported(format!(
                "the schema {:?} is not 1 to {MAX_SCHEMA_BYTES} lower-case letters, digits and \
                 underscores, or it begins with a digit or \"pg_\"",
                self.schema
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let options = PostgresOptions::new("h", "u", "d").with_password("secret");
        assert!(!format!("{options:?}").contains("secret"));
    }

    #[test]
    fn a_schema_needs_no_quotes() {
        assert!(PostgresOptions::is_schema("storage_2"));
        let longest = "x".repeat(MAX_SCHEMA_BYTES);
        assert!(PostgresOptions::is_schema(&longest));
        for bad in ["", "1a", "pg_x", "A", "a-b", "a\"b", "a b", &format!("{longest}x")] {
            assert!(!PostgresOptions::is_schema(bad), "{bad:?}");
        }
    }
}
