//! Options for opening a store.

use std::path::PathBuf;
use std::time::Duration;

use storage_core::StorageError;

use super::deployment::Deployment;
use crate::password::Password;
use crate::tls::TlsMode;

/// The longest prefix, in bytes. It is a part of every key.
const MAX_PREFIX_BYTES: usize = 63;

/// Where a [`RedisStorage`](super::RedisStorage) is, and how to open it.
///
/// ```
/// use storage_backends::{Deployment, RedisAddress, RedisOptions};
///
/// let server = RedisAddress::new("redis.example", RedisAddress::DEFAULT_PORT);
/// let options = RedisOptions::new(Deployment::Single(server))
///     .with_prefix("notes")
///     .with_password("secret");
/// assert!(!format!("{options:?}").contains("secret"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The servers.
    pub deployment: Deployment,
    /// The user to log in as. Default: the server's default user.
    pub user: Option<String>,
    /// The password of the user, if the servers want one.
    pub password: Option<Password>,
    /// The number of the database; a cluster has only 0. Default: 0.
    pub database: u32,
    /// What the keys of the store begin with, so that stores and other programs can share a
    /// server. Default: `storage`.
    pub prefix: String,
    /// The maximum number of connections to each server for calls; others carry notices. Calls
    /// that find none free are sent together, so few suffice: with one for each of many callers,
    /// client and server spend most of their time in system calls. A write that waits for
    /// replicas ([`wait`](Self::wait)) keeps others on its connection waiting, so more may help
    /// then. Default: 4.
    pub pool_size: usize,
    /// The maximum time to open a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// The maximum time from a request to its reply. Default: 10 s.
    pub reply_timeout: Duration,
    /// The maximum time of a call, with waiting for a connection, a failover and retries.
    /// Default: 30 s.
    pub total_timeout: Duration,
    /// How many replicas must have received a write before it is acknowledged. This makes
    /// it unlikely that a failover loses the write, but is no guarantee. Default: 0.
    pub wait: u32,
    /// How long to wait for the replicas. Default: 1 s.
    pub wait_timeout: Duration,
    /// Whether connections are encrypted. [`TlsMode::Prefer`] is not supported, because a
    /// server expects either encryption or none on a port. Default: [`TlsMode::Disable`].
    pub tls: TlsMode,
    /// A PEM file with the certificates of authorities to trust instead of those of the
    /// system.
    pub root_certificates: Option<PathBuf>,
}

impl RedisOptions {
    /// The prefix, unless another one is set.
    pub const DEFAULT_PREFIX: &str = "storage";

    /// The default options for a deployment.
    pub fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            user: None,
            password: None,
            database: 0,
            prefix: Self::DEFAULT_PREFIX.to_owned(),
            pool_size: 4,
            connect_timeout: Duration::from_secs(5),
            reply_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            wait: 0,
            wait_timeout: Duration::from_secs(1),
            tls: TlsMode::Disable,
            root_certificates: None,
        }
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Password>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the number of the database.
    #[must_use]
    pub fn with_database(mut self, database: u32) -> Self {
        self.database = database;
        self
    }

    /// Sets what keys begin with.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the maximum number of connections to each server; at least one is used.
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
    pub fn with_reply_timeout(mut self, timeout: Duration) -> Self {
        self.reply_timeout = timeout;
        self
    }

    /// Sets the maximum time of a call.
    #[must_use]
    pub fn with_total_timeout(mut self, timeout: Duration) -> Self {
        self.total_timeout = timeout;
        self
    }

    /// Sets how many replicas must have received a write.
    #[must_use]
    pub fn with_wait(mut self, replicas: u32) -> Self {
        self.wait = replicas;
        self
    }

    /// Sets how long to wait for replicas.
    #[must_use]
    pub fn with_wait_timeout(mut self, timeout: Duration) -> Self {
        self.wait_timeout = timeout;
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

    /// Whether a text can be a prefix: 1 to 63 lower-case letters, digits, `_`, `-` and `.`.
    pub fn is_prefix(text: &str) -> bool {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.".contains(c);
        (1..=MAX_PREFIX_BYTES).contains(&text.len()) && text.chars().all(allowed)
    }

    /// Refuses options that the store does not support.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`].
    pub(super) fn check(&self) -> Result<(), StorageError> {
        let unsupported = |what: String| Err(StorageError::Unsupported(what));
        if !Self::is_prefix(&self.prefix) {
            return unsupported(format!(
                "the prefix {:?} is not 1 to {MAX_PREFIX_BYTES} lower-case letters, digits, \"_\", \
                 \"-\" and \".\"",
                self.prefix
            ));
        }
        if self.tls == TlsMode::Prefer {
            return unsupported(
                "a Redis server does not offer TLS on a port without it; use \"disable\", \
                 \"require\" or \"verify-full\""
                    .to_owned(),
            );
        }
        let addresses = match &self.deployment {
            Deployment::Single(_) => return Ok(()),
            Deployment::Cluster(_) if self.database != 0 => {
                return unsupported(format!(
                    "a cluster has no database {}; use 0, and a prefix to separate stores",
                    self.database
                ));
            }
            Deployment::Cluster(addresses) => addresses,
            Deployment::Sentinel(sentinel) if sentinel.master.is_empty() => {
                return unsupported("the name of the sentinels' primary is missing".to_owned());
            }
            Deployment::Sentinel(sentinel) => &sentinel.addresses,
        };
        if addresses.is_empty() {
            return unsupported("the deployment names no server".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::deployment::{RedisAddress, SentinelDeployment};
    use super::*;

    fn single() -> RedisOptions {
        RedisOptions::new(Deployment::Single(RedisAddress::new("h", 1)))
    }

    #[test]
    fn a_password_is_not_shown() {
        let sentinels =
            SentinelDeployment::new(vec![RedisAddress::new("h", 1)], "m").with_password("hush");
        let mut options = single().with_password("secret");
        options.deployment = Deployment::Sentinel(sentinels);
        let shown = format!("{options:?}");
        assert!(!shown.contains("secret") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_prefix_has_no_braces() {
        let longest = "x".repeat(MAX_PREFIX_BYTES);
        for good in ["storage", "a", "0-1_2.3", &longest] {
            assert!(RedisOptions::is_prefix(good), "{good:?}");
        }
        for bad in ["", "A", "{a}", "a:b", "a b", "a/b", "\u{e4}", &format!("{longest}x")] {
            assert!(!RedisOptions::is_prefix(bad), "{bad:?}");
            assert!(single().with_prefix(bad).check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn unsupported_options_are_refused() {
        single().with_database(3).check().unwrap();
        single().with_tls(TlsMode::Prefer).check().unwrap_err();
        let mut options = single();
        options.deployment = Deployment::Cluster(vec![RedisAddress::new("h", 1)]);
        options.check().unwrap();
        options.clone().with_database(3).check().unwrap_err();
        options.deployment = Deployment::Cluster(Vec::new());
        options.check().unwrap_err();
        options.deployment = Deployment::Sentinel(SentinelDeployment::new(Vec::new(), "m"));
        options.check().unwrap_err();
        let addresses = vec![RedisAddress::new("h", 1)];
        options.deployment = Deployment::Sentinel(SentinelDeployment::new(addresses, ""));
        options.check().unwrap_err();
    }
}
