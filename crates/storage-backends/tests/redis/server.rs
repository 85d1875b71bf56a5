//! The servers of the tests, and a prefix for each of them.

use std::sync::atomic::{AtomicU32, Ordering};

use redis::Value;
use storage_backends::{Deployment, RedisAddress};
use test_servers::{Redis, RedisBuilder};

use super::raw::Raw;
use super::*;

/// Names a server: `redis://[USER[:PASSWORD]@]HOST:PORT[/DB]`.
const SINGLE: &str = "STORAGE_TEST_REDIS_URL";

/// Names nodes of a cluster: `redis+cluster://[USER[:PASSWORD]@]HOST:PORT,HOST:PORT/`.
const CLUSTER: &str = "STORAGE_TEST_REDIS_CLUSTER_URL";

/// Whether the watcher of a host is told of its commits of checks only.
pub(crate) const REPORTS_CHECKS: bool = false;

/// Whether [`cut_notices`](TestStore::cut_notices) can meet a write.
pub(crate) const CUTS_WRITERS: bool = false;

/// A store that several hosts open; `None` without a server, which is reported.
pub(crate) fn shared_store() -> Option<TestStore> {
    TestStore::single()
}

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

    /// Cuts the connections of all stores that listen. Those of other tests listen again, too.
    pub(crate) fn cut_notices(&self) {
        self.raw().run("CLIENT KILL TYPE pubsub");
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
pub(crate) struct OwnServer(Redis);

impl OwnServer {
    /// `None` where no server can be started, which is reported.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Option<Self> {
        if let Some(reason) = Redis::missing() {
            eprintln!("SKIPPED: {reason}");
            return None;
        }
        let builder = Redis::builder().setting("appendonly", "no");
        let set =
            |builder: RedisBuilder, (name, value): &(&str, &str)| builder.setting(name, value);
        Some(Self(settings.iter().fold(builder, set).start().unwrap()))
    }

    fn address(&self) -> RedisAddress {
        let address = self.0.address();
        RedisAddress::new(address.ip().to_string(), address.port())
    }

    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::new(Deployment::Single(self.address()))
    }

    pub(crate) fn raw(&self) -> Raw {
        Raw::connect(&self.address())
    }

    /// Kills the server, and starts it again on the same port.
    pub(crate) fn restart(&mut self) {
        self.0.kill().unwrap();
        self.0.restart().unwrap();
    }
}
