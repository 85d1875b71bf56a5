//! Opening connections: logging in, and making sure that the server is the right one.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use redis::{Cmd, Value, cmd};
use rustls::ClientConfig;
use storage_core::StorageError;

use super::deployment::{Deployment, RedisAddress};
use super::error::{Failure, Problem};
use super::keys::StoreCheck;
use super::options::RedisOptions;
use super::sentinel;
use super::shard::Shard;
use super::transport::Wire;
use crate::password::Password;
use crate::tls::{self, TlsMode};

/// What the server shows of its connections.
const CLIENT_NAME: &str = "storage-host";

/// Longer times are not added to the time of day.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Who logs in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    user: Option<String>,
    password: Option<Password>,
}

/// How to open connections to the servers of one store.
pub(super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    login: Login,
    sentinel_login: Option<Login>,
    database: u32,
    /// Whether a replica is refused.
    needs_primary: bool,
    pub(super) pool_size: usize,
    pub(super) connect_timeout: Duration,
    pub(super) reply_timeout: Duration,
    pub(super) total_timeout: Duration,
    check: OnceLock<StoreCheck>,
}

impl Connector {
    /// # Errors
    /// [`StorageError::Unsupported`] for options that the store lacks;
    /// [`StorageError::IoError`] if there are no certificates to trust.
    pub(super) fn new(options: &RedisOptions, read_only: bool) -> Result<Self, StorageError> {
        options.check()?;
        let tls = match options.tls {
            TlsMode::Disable => None,
            mode => Some(tls::client_config(mode, options.root_certificates.as_deref())?),
        };
        let (sentinel_login, needs_primary) = match &options.deployment {
            Deployment::Single(_) => (None, !read_only),
            // A replica leads to its primary.
            Deployment::Cluster(_) => (None, false),
            Deployment::Sentinel(sentinel) => {
                let (user, password) = (sentinel.user.clone(), sentinel.password.clone());
                (Some(Login { user, password }), true)
            }
        };
        Ok(Self {
            tls: tls.map(Arc::new),
            login: Login { user: options.user.clone(), password: options.password.clone() },
            sentinel_login,
            database: options.database,
            needs_primary,
            pool_size: options.pool_size.max(1),
            connect_timeout: options.connect_timeout.min(LONGEST),
            reply_timeout: options.reply_timeout.min(LONGEST),
            total_timeout: options.total_timeout.min(LONGEST),
            check: OnceLock::new(),
        })
    }

    /// Makes new connections look for a store.
    pub(super) fn expect_store(&self, check: StoreCheck) {
        // A store is opened once.
        let _ = self.check.set(check);
    }

    /// Opens a connection for calls. Looks for the store in `shard`, which the server has.
    pub(super) fn open(
        &self,
        address: &RedisAddress,
        shard: Option<Shard>,
        deadline: Instant,
    ) -> Result<Wire, Problem> {
        let mut requests = login(&self.login);
        if self.database != 0 {
            let select = cmd("SELECT").arg(self.database).take();
            requests.push((select, Purpose::Required));
        }
        let name = cmd("CLIENT").arg("SETNAME").arg(CLIENT_NAME).take();
        requests.push((name, Purpose::Optional));
        if self.needs_primary {
            requests.push((cmd("ROLE"), Purpose::Role));
        }
        if let (Some(check), Some(shard)) = (self.check.get(), shard) {
            let read = cmd("HGET").arg(check.keys.store(shard)).arg("store_id").take();
            requests.push((read, Purpose::Store(&check.store_id)));
        }
        self.run(address, &requests, deadline)
    }

    /// Opens a connection to a server, which may be a replica and hold another store.
    pub(super) fn open_any(
        &self,
        address: &RedisAddress,
        deadline: Instant,
    ) -> Result<Wire, Failure> {
        self.run(address, &login(&self.login), deadline)
            .map_err(|problem| Failure::at(address, problem))
    }

    /// Opens a connection to a sentinel.
    pub(super) fn open_sentinel(
        &self,
        address: &RedisAddress,
        deadline: Instant,
    ) -> Result<Wire, Failure> {
        let requests = self.sentinel_login.as_ref().map(login).unwrap_or_default();
        self.run(address, &requests, deadline)
            .map_err(|problem| sentinel::login_failure(address, problem))
    }

    fn run(
        &self,
        address: &RedisAddress,
        requests: &[(Cmd, Purpose<'_>)],
        deadline: Instant,
    ) -> Result<Wire, Problem> {
        let limit = self.connect_timeout;
        let deadline = deadline.min(Instant::now() + limit);
        let mut wire = Wire::open(address, self.tls.as_ref(), limit, deadline, self.reply_timeout)?;
        let failed = |problem| match problem {
            Problem::NoReply(_) => Problem::NoConnection(limit),
            Problem::Lost(error) => Problem::Closed(error),
            other => other,
        };
        wire.send(deadline, requests.iter().map(|(command, _)| command))
            .map_err(|error| failed(error.problem))?;
        for (_, purpose) in requests {
            purpose.check(wire.receive_one(deadline).map_err(failed)?)?;
        }
        Ok(wire)
    }
}

fn login(login: &Login) -> Vec<(Cmd, Purpose<'static>)> {
    let mut auth = cmd("AUTH");
    match (&login.user, &login.password) {
        (None, None) => return Vec::new(),
        (user, Some(password)) => auth.arg(user).arg(password.as_str()),
        // Without a login the connection would be one of the default user.
        (Some(user), None) => auth.arg(user).arg(""),
    };
    vec![(auth, Purpose::Required)]
}

/// What a reply of a new connection must be.
pub(super) enum Purpose<'c> {
    /// Not an error.
    Required,
    /// Anything.
    Optional,
    /// The role of a primary.
    Role,
    /// The id of the store.
    Store(&'c str),
}

impl Purpose<'_> {
    pub(super) fn check(&self, reply: Value) -> Result<(), Problem> {
        match (self, reply) {
            (Self::Optional, _) => Ok(()),
            // A managed server may forbid the command. A replica then refuses writes.
            (Self::Role, Value::ServerError(error)) if is_forbidden(&error) => Ok(()),
            // The shard moves to another server. Its commits check the store.
            (Self::Store(_), Value::ServerError(error)) if is_moving(&error) => Ok(()),
            (_, Value::ServerError(error)) => Err(Problem::Reply(error)),
            (Self::Required, _) => Ok(()),
            (Self::Role, Value::Array(role)) => match role.first() {
                Some(Value::BulkString(role)) if role == b"master" => Ok(()),
                _ => Err(Problem::IsReplica),
            },
            (Self::Store(expected), Value::BulkString(found)) if found == expected.as_bytes() => {
                Ok(())
            }
            (Self::Store(_), Value::BulkString(_) | Value::Nil) => Err(Problem::Replaced),
            (Self::Role, _) => Err(Problem::Unexpected("ROLE")),
            (Self::Store(_), _) => Err(Problem::Unexpected("HGET")),
        }
    }
}

fn is_forbidden(error: &redis::ServerError) -> bool {
    let unknown = error.details().is_some_and(|details| details.contains("unknown command"));
    error.code() == "NOPERM" || unknown
}

fn is_moving(error: &redis::ServerError) -> bool {
    matches!(error.code(), "ASK" | "TRYAGAIN")
}
