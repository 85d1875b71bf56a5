//! A master and a replica that sentinels watch.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use super::{ADMIN, Redis, RedisBuilder, Role};
use crate::server::wait_until;

/// What the sentinels call the master.
const MASTER: &str = "storage";

const SENTINELS: usize = 3;

/// How many sentinels must agree that the master does not answer.
const QUORUM: usize = 2;

/// A Redis master, its replica, and three sentinels on loopback, which let the other server
/// take over from a master that does not answer for two seconds. All are killed, and their
/// files are removed, when this value is dropped or this process ends.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// let mut group = test_servers::RedisSentinel::start()?;
/// let master = group.master()?;
/// group.server_mut(master)?.kill()?;
/// group.wait_until_healthy()?;
/// assert_ne!(group.master()?, master);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RedisSentinel {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
    sentinel_password: Option<String>,
}

impl RedisSentinel {
    /// Starts servers with the default settings.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn start() -> Result<Self> {
        Self::with(Redis::builder(), None)
    }

    /// Starts servers with these options, and sentinels that require this password, which may
    /// be another one than that of the servers. With TLS the sentinels have it too.
    ///
    /// # Errors
    /// If Redis is not installed ([`Redis::missing`]) or a server does not start.
    pub fn with(mut options: RedisBuilder, sentinel_password: Option<&str>) -> Result<Self> {
        options.create_certificate()?;
        let master = options.clone().start()?;
        let (host, port) = (master.address().ip(), master.address().port());
        let replica =
            options.clone().start_as(Role::Single, &format!("replicaof {host} {port}\n"))?;
        let admin = options.admin_password();
        let mut lines = String::new();
        let _ = writeln!(lines, "sentinel monitor {MASTER} {host} {port} {QUORUM}");
        let _ = writeln!(lines, "sentinel auth-user {MASTER} {ADMIN}");
        let _ = writeln!(lines, "sentinel auth-pass {MASTER} {admin}");
        let _ = writeln!(lines, "sentinel down-after-milliseconds {MASTER} 2000");
        let _ = writeln!(lines, "sentinel failover-timeout {MASTER} 4000");
        let _ = writeln!(lines, "sentinel sentinel-user {ADMIN}\nsentinel sentinel-pass {admin}");
        let watching = options.for_sentinel(sentinel_password);
        let start = |_| watching.clone().start_as(Role::Sentinel, &lines);
        let sentinels = (0..SENTINELS).map(start).collect::<Result<_>>()?;
        let sentinel_password = sentinel_password.map(str::to_owned);
        let group = Self { servers: vec![master, replica], sentinels, sentinel_password };
        group.wait_until_healthy()?;
        Ok(group)
    }

    /// The URL of the group with the addresses of the sentinels, and the servers' user, password
    /// and certificate if they have them. The sentinels' password is not a part of it.
    pub fn url(&self) -> String {
        let addresses = self.sentinels.iter().map(|sentinel| sentinel.address().to_string());
        let addresses = addresses.collect::<Vec<_>>().join(",");
        let (log_in, tls) = self
            .servers
            .first()
            .map(|server| (server.options.log_in(), server.tls_settings()))
            .unwrap_or_default();
        format!("redis+sentinel://{log_in}{addresses}/{MASTER}{tls}")
    }

    /// The password that the sentinels require.
    pub fn sentinel_password(&self) -> Option<&str> {
        self.sentinel_password.as_deref()
    }

    /// The two servers, whether they run or not. The first one began as the master.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// A server, to stop and start it.
    ///
    /// # Errors
    /// If there is none with this number.
    pub fn server_mut(&mut self, number: usize) -> Result<&mut Redis> {
        self.servers.get_mut(number).with_context(|| format!("there is no server {number}"))
    }

    /// The sentinels, whether they run or not.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// A sentinel, to stop and start it.
    ///
    /// # Errors
    /// If there is none with this number.
    pub fn sentinel_mut(&mut self, number: usize) -> Result<&mut Redis> {
        self.sentinels.get_mut(number).with_context(|| format!("there is no sentinel {number}"))
    }

    /// The number of the server that the first sentinel that answers calls the master.
    ///
    /// # Errors
    /// If no sentinel answers.
    pub fn master(&self) -> Result<usize> {
        let sentinel = answering(&self.sentinels).next().context("no sentinel answers")?;
        let address = master(sentinel)?;
        let found = self.servers.iter().position(|server| server.address() == address);
        found.with_context(|| format!("{address} is not a server of the group"))
    }

    /// Lets the replica take over while both servers run. Returns its number.
    ///
    /// # Errors
    /// If the replica is not connected, or that takes too long.
    pub fn fail_over(&self) -> Result<usize> {
        let old = self.master()?;
        let sentinel = answering(&self.sentinels).next().context("no sentinel answers")?;
        // Refused for some time after another failover, and before the sentinel has looked
        // at the replica.
        wait_until(|| Ok(sentinel.command(&["sentinel", "failover", MASTER]).is_ok()))
            .context("the sentinels do not start a failover")?;
        wait_until(|| Ok(self.master()? != old)).context("the sentinels name no other master")?;
        self.wait_until_healthy()?;
        self.master()
    }

    /// Waits until all sentinels that run know each other and the replica, name the same
    /// master, that master runs, and the other server is its replica if it runs. After the
    /// master was killed or paused, this waits until the replica has taken over.
    ///
    /// # Errors
    /// If that takes too long.
    pub fn wait_until_healthy(&self) -> Result<()> {
        let mut reason = String::new();
        wait_until(|| {
            // A server that loads its data refuses most commands.
            let ailment = self.ailment().unwrap_or_else(|error| Some(format!("{error:#}")));
            reason = ailment.unwrap_or_default();
            Ok(reason.is_empty())
        })
        .with_context(|| format!("the sentinels are not ready: {reason}"))
    }

    /// Why a client could not rely on the sentinels.
    fn ailment(&self) -> Result<Option<String>> {
        let mut named = None;
        for sentinel in answering(&self.sentinels) {
            let name = sentinel.address();
            let master = master(sentinel)?;
            if *named.get_or_insert(master) != master {
                return Ok(Some(format!("{name} names another master than the first sentinel")));
            }
            let state = sentinel.command(&["sentinel", "ckquorum", MASTER]);
            if let Err(error) = state {
                return Ok(Some(format!("{name}: {error:#}")));
            }
            let replicas = sentinel.command(&["sentinel", "replicas", MASTER])?;
            if !replicas.contains("flags") {
                return Ok(Some(format!("{name} knows no replica")));
            }
        }
        let named = named.context("no sentinel answers")?;
        for server in answering(&self.servers) {
            let (name, role) = (server.address(), server.info("role")?);
            let expected = if name == named { "master" } else { "slave" };
            if role != expected {
                return Ok(Some(format!("{name} is a {role}")));
            }
            if role == "slave" && server.info("master_link_status")? != "up" {
                return Ok(Some(format!("the replica {name} is not connected")));
            }
        }
        let runs = answering(&self.servers).any(|server| server.address() == named);
        Ok((!runs).then(|| format!("the master {named} does not run")))
    }
}

fn answering(servers: &[Redis]) -> impl Iterator<Item = &Redis> {
    servers.iter().filter(|server| server.server.answers())
}

/// The address of the master, as a sentinel knows it.
fn master(sentinel: &Redis) -> Result<SocketAddr> {
    let reply = sentinel.command(&["sentinel", "get-master-addr-by-name", MASTER])?;
    Ok(reply.replace('\n', ":").parse()?)
}
