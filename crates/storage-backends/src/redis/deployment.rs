//! Which servers hold a store.

use std::fmt;

use crate::password::Password;

/// The servers of a [`RedisStorage`](super::RedisStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deployment {
    /// One server, or a name that always leads to the primary.
    Single(RedisAddress),
    /// A cluster. The addresses of some of its nodes; the others are found.
    Cluster(Vec<RedisAddress>),
    /// A primary that sentinels watch and replace.
    Sentinel(SentinelDeployment),
}

/// The sentinels of a [`Deployment`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentinelDeployment {
    /// The sentinels. All are asked, and the one that knows the latest failover is believed.
    pub addresses: Vec<RedisAddress>,
    /// The name that the sentinels have for the primary.
    pub master: String,
    /// The user to log in to the sentinels as, if they have users.
    pub user: Option<String>,
    /// The password of the sentinels, if they want one.
    pub password: Option<Password>,
}

impl SentinelDeployment {
    /// Sentinels without a password.
    pub fn new(addresses: Vec<RedisAddress>, master: impl Into<String>) -> Self {
        Self { addresses, master: master.into(), user: None, password: None }
    }

    /// Sets the user to log in to the sentinels as.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password of the sentinels.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<Password>) -> Self {
        self.password = Some(password.into());
        self
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RedisAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl RedisAddress {
    /// The port of a server, unless another one is set.
    pub const DEFAULT_PORT: u16 = 6379;

    /// The port of a sentinel, unless another one is set.
    pub const DEFAULT_SENTINEL_PORT: u16 = 26379;

    /// An address.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}
