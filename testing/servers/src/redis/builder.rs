//! The options of a Redis server, and its creation.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{ADMIN, CONFIGURATION, Redis, Role, SOCKET};
use crate::certificate::{self, Certificate};
use crate::server::Server;
use crate::{ports, programs};

/// The setting of every server.
const BIND: &str = "bind 127.0.0.1\n";

/// Settings of every server with data, before those of the test.
const SETTINGS: &str = "\
save \"\"
appendonly yes
appendfsync always
repl-diskless-sync-delay 0
";

/// Settings of every node of a cluster. The replica of a node that does not answer for this
/// long, in milliseconds, takes over.
const NODE: &str = "\
cluster-enabled yes
cluster-node-timeout 2000
";

/// What the log says if another program has the port.
const PORT_IN_USE: &str = "Address already in use";

/// The options of a Redis server.
#[derive(Debug, Clone)]
pub struct RedisBuilder {
    password: Option<String>,
    user: Option<AclUser>,
    tls: bool,
    /// Of all servers of a group, which trust each other.
    certificate: Option<Certificate>,
    settings: Vec<(String, String)>,
    directory: Option<PathBuf>,
    /// Of the user for the tests' own commands.
    admin: String,
}

#[derive(Debug, Clone)]
struct AclUser {
    name: String,
    password: String,
    rules: String,
}

impl Default for RedisBuilder {
    fn default() -> Self {
        let admin = std::iter::repeat_with(fastrand::alphanumeric).take(32).collect();
        Self {
            password: None,
            user: None,
            tls: false,
            certificate: None,
            settings: Vec::new(),
            directory: None,
            admin,
        }
    }
}

impl RedisBuilder {
    /// Requires this password of clients without a user name.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user with these rights, such as `~* &* +@all`. Only this user can then log in,
    /// and also the default user if there is a [`password`](Self::password).
    #[must_use]
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> Self {
        let [name, password, rules] = [name, password, rules].map(str::to_owned);
        self.user = Some(AclUser { name, password, rules });
        self
    }

    /// Refuses connections without TLS. The certificate is self-signed, for `localhost` and
    /// `127.0.0.1`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A setting, with its value as `redis.conf` has it. The last one of a name counts.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the data in a new directory below this one, such as the root of a small file
    /// system. The server's user must be able to reach it.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// If Redis is not installed ([`Redis::missing`]) or does not start.
    pub fn start(self) -> Result<Redis> {
        self.start_as(Role::Single, "")
    }

    /// Starts a server with these lines of configuration too.
    pub(super) fn start_as(mut self, role: Role, lines: &str) -> Result<Redis> {
        let program = programs::redis()?;
        let server = Server::create("test-redis-", self.directory.as_deref())?;
        self.create_certificate()?;
        if let Some(certificate) = &self.certificate {
            certificate.write(server.path(), server.user())?;
        }
        let mut redis = Redis { server, program, role, options: self };
        let find = if role == Role::Node { ports::free_for_node } else { ports::free };
        ports::on_free_port(find, PORT_IN_USE, |port| {
            redis.server.set_port(port);
            // A sentinel writes to its file.
            let file = redis.server.path().join(CONFIGURATION);
            let text = redis.options.configuration(&redis);
            fs::write(&file, text + lines)?;
            redis.server.user().own_alone(&file)?;
            redis.launch()
        })?;
        Ok(redis)
    }

    fn configuration(&self, redis: &Redis) -> String {
        let (path, port) = (redis.server.path().display(), redis.server.port());
        let mut text = BIND.to_owned();
        if redis.role != Role::Sentinel {
            text.push_str(SETTINGS);
        }
        if redis.role == Role::Node {
            // The file stays when the data is removed.
            let _ = writeln!(text, "{NODE}cluster-config-file {path}/nodes.conf");
        }
        let _ = writeln!(text, "dir {}", redis.server.data().display());
        let _ = writeln!(text, "unixsocket {path}/{SOCKET}\nunixsocketperm 700");
        let _ = writeln!(text, "user {ADMIN} on >{} ~* &* +@all", self.admin);
        if redis.role != Role::Sentinel {
            // For the time when it is a replica.
            let _ = writeln!(text, "masteruser {ADMIN}\nmasterauth {}", self.admin);
        }
        if self.tls {
            let (certificate, key) = (certificate::CERTIFICATE, certificate::KEY);
            let _ = writeln!(text, "port 0\ntls-port {port}\ntls-auth-clients no");
            text.push_str("tls-replication yes\n");
            if redis.role == Role::Node {
                text.push_str("tls-cluster yes\n");
            }
            let _ = writeln!(text, "tls-cert-file {path}/{certificate}");
            let _ = writeln!(text, "tls-key-file {path}/{key}");
            let _ = writeln!(text, "tls-ca-cert-file {path}/{certificate}");
        } else {
            let _ = writeln!(text, "port {port}");
        }
        if let Some(AclUser { name, password, rules }) = &self.user {
            let _ = writeln!(text, "user {name} on >{password} {rules}");
        }
        match (&self.password, &self.user) {
            (Some(password), _) => {
                let _ = writeln!(text, "requirepass {password}");
            }
            (None, Some(_)) => text.push_str("user default off\n"),
            (None, None) => {}
        }
        for (name, value) in &self.settings {
            let _ = writeln!(text, "{name} {value}");
        }
        text
    }

    /// Creates the certificate of this server and of all later ones with these options.
    pub(super) fn create_certificate(&mut self) -> Result<()> {
        if self.tls && self.certificate.is_none() {
            self.certificate = Some(Certificate::create()?);
        }
        Ok(())
    }

    /// The options of a sentinel that requires this password.
    pub(super) fn for_sentinel(&self, password: Option<&str>) -> Self {
        let password = password.map(str::to_owned);
        Self { password, user: None, settings: Vec::new(), ..self.clone() }
    }

    pub(super) fn has_tls(&self) -> bool {
        self.tls
    }

    pub(super) fn admin_password(&self) -> &str {
        &self.admin
    }

    /// The name and the password for clients; without a name the default user's password.
    pub(super) fn credentials(&self) -> Option<(&str, &str)> {
        match (&self.user, &self.password) {
            (Some(user), _) => Some((&user.name, &user.password)),
            (None, Some(password)) => Some(("", password)),
            (None, None) => None,
        }
    }

    /// The part of a URL before the host.
    pub(super) fn log_in(&self) -> String {
        let credentials = self.credentials();
        credentials.map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default()
    }
}
