//! The servers of the tests, and a prefix for each of them.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use redis::Value;
use storage_backends::{Deployment, RedisAddress};

use super::raw::Raw;
use super::*;

/// Names a server: `redis://[USER[:PASSWORD]@]HOST:PORT[/DB]`.
const SINGLE: &str = "STORAGE_TEST_REDIS_URL";

/// Names nodes of a cluster: `redis+cluster://[USER[:PASSWORD]@]HOST:PORT,HOST:PORT/`.
const CLUSTER: &str = "STORAGE_TEST_REDIS_CLUSTER_URL";

/// A prefix on the servers of the tests, whose keys are removed at the end.
pub(crate) struct TestStore {
    pub(crate) options: RedisOptions,
}

impl TestStore {
    /// A prefix without keys on one server; `None` without a server, which is reported.
    pub(crate) fn single() -> Option<Self> {
        Self::named(SINGLE, "redis://")
    }

    /// A prefix without keys on a cluster; `None` without one, which is reported.
    pub(crate) fn cluster() -> Option<Self> {
        Self::named(CLUSTER, "redis+cluster://")
    }

    /// A prefix on each of the deployments that there are.
    pub(crate) fn all() -> Vec<Self> {
        [Self::single(), Self::cluster()].into_iter().flatten().collect()
    }

    fn named(variable: &str, scheme: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(url) = std::env::var(variable) else {
            eprintln!("SKIPPED: {variable} names no Redis server");
            return None;
        };
        let rest = url.strip_prefix(scheme).unwrap_or_else(|| panic!("{variable} is not {scheme}"));
        let rest = rest.split('?').next().unwrap();
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(a, b)| (Some(a), b));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        let addresses: Vec<RedisAddress> = hosts
            .split(',')
            .map(|host| host.rsplit_once(':').unwrap())
            .map(|(host, port)| RedisAddress::new(host, port.parse().unwrap()))
            .collect();
        let deployment = match variable {
            SINGLE => Deployment::Single(addresses[0].clone()),
            _ => Deployment::Cluster(addresses),
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut options = RedisOptions::new(deployment)
            .with_prefix(format!("test-{}-{number}", std::process::id()))
            .with_pool_size(8);
        options.database = database.parse().unwrap_or_default();
        if let Some((user, password)) = login.map(|login| login.split_once(':').unwrap()) {
            options.user = (!user.is_empty()).then(|| user.to_owned());
            options = options.with_password(password);
        }
        Some(Self { options })
    }

    pub(crate) fn open(&self) -> RedisStorage {
        RedisStorage::open(&self.options).unwrap()
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.options.deployment, Deployment::Cluster(_))
    }

    /// Connections to all primaries.
    pub(crate) fn servers(&self) -> Vec<Raw> {
        let connect = |address: &RedisAddress| {
            let mut raw = Raw::connect(address);
            if self.options.database > 0 {
                raw.run(&format!("SELECT {}", self.options.database));
            }
            raw
        };
        match &self.options.deployment {
            Deployment::Single(address) => vec![connect(address)],
            Deployment::Cluster(nodes) => {
                let nodes = raw::text(&connect(&nodes[0]).run("CLUSTER NODES"));
                nodes
                    .lines()
                    .filter(|line| line.contains("master") && !line.contains("fail"))
                    .map(|line| line.split([' ', '@']).nth(1).unwrap())
                    .map(|address| address.rsplit_once(':').unwrap())
                    .map(|(host, port)| connect(&RedisAddress::new(host, port.parse().unwrap())))
                    .collect()
            }
            other => panic!("{other:?}"),
        }
    }

    /// The connection to the only server.
    pub(crate) fn raw(&self) -> Raw {
        self.servers().pop().unwrap()
    }

    /// The name of a key of the first shard, which is the only one on a single server.
    pub(crate) fn name(&self, kind: &str, rest: &str) -> String {
        format!("{kind}:{{{}:00}}{rest}", self.options.prefix)
    }

    /// The names of all keys with the prefix, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for mut server in self.servers() {
            let Value::Array(found) = server.run(&format!("KEYS ?:{{{}:*", self.options.prefix))
            else {
                panic!("not an array");
            };
            names.extend(found.iter().map(|name| match name {
                Value::BulkString(name) => String::from_utf8_lossy(name).into_owned(),
                other => panic!("{other:?}"),
            }));
        }
        names.sort();
        names
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        for mut server in self.servers() {
            let Value::Array(names) = server.run(&format!("KEYS ?:{{{}:*", self.options.prefix))
            else {
                panic!("not an array");
            };
            for name in names {
                server.reply(redis::cmd("UNLINK").arg(name_bytes(name)));
            }
        }
    }
}

fn name_bytes(name: Value) -> Vec<u8> {
    match name {
        Value::BulkString(name) => name,
        other => panic!("{other:?}"),
    }
}

/// A server of one test, whose settings it may change. It has no persistence, unless the test
/// asks for it.
pub(crate) struct OwnServer {
    process: Child,
    directory: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl OwnServer {
    /// `None` without the program, which is reported. Only starts one if the other tests have a
    /// server, too.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        if std::env::var(SINGLE).is_err() {
            eprintln!("SKIPPED: {SINGLE} names no Redis server");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        // Another program may take the port before the server has it.
        for _ in 0..20 {
            let port = free_port();
            let mut process = spawn(port, directory.path(), &arguments)?;
            if is_ready(port, &mut process) {
                return Some(Self { process, directory, port, arguments });
            }
            let _ = process.kill();
            let _ = process.wait();
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn options(&self) -> RedisOptions {
        let address = RedisAddress::new("127.0.0.1", self.port);
        RedisOptions::new(Deployment::Single(address))
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(&RedisAddress::new("127.0.0.1", self.port))
    }

    /// Kills the server, and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.process = spawn(self.port, self.directory.path(), &self.arguments).unwrap();
            if is_ready(self.port, &mut self.process) {
                return;
            }
            assert!(Instant::now() < deadline, "redis-server does not start again");
            self.stop();
        }
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spawn(port: u16, directory: &std::path::Path, arguments: &[String]) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(port.to_string());
    command.arg("--dir").arg(directory).args(arguments);
    match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(process) => Some(process),
        Err(error) => {
            eprintln!("SKIPPED: redis-server cannot be run: {error}");
            None
        }
    }
}

/// Waits until the server replies; false if it ended.
fn is_ready(port: u16, process: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while process.try_wait().unwrap().is_none() && Instant::now() < deadline {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            let mut raw = Raw::connect(&RedisAddress::new("127.0.0.1", port));
            if !matches!(raw.reply(&redis::cmd("PING")), Value::ServerError(_)) {
                return true;
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}
