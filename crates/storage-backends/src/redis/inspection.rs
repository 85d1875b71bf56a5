//! What the servers of a store can lose, and what an operator should know about them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::{Cmd, Value};
use storage_core::{Durability, StorageError};

use super::client::Client;
use super::database::{Database, command, failed};
use super::deployment::RedisAddress;
use super::error::{self, Failure};
use super::options::RedisOptions;
use super::replies;
use super::shard::Shard;
use crate::tls::TlsMode;

/// How often the latency is measured.
const ROUND_TRIPS: usize = 9;

/// The number of slots of a whole cluster.
const SLOTS: &str = "16384";

/// The setting of how many replicas a primary needs for writes.
const MIN_REPLICAS: &str = "min-replicas-to-write";

/// The policy that removes nothing when memory is full.
const KEEPS_ALL: &str = "noeviction";

/// The servers of a store, as `doctor` reports them. Where primaries differ, it is the weakest
/// of them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisReport {
    /// The version of the servers, such as `Redis 7.0.15`.
    pub version: String,
    /// The number of primaries; 1 unless the store is on a cluster. A replica that was opened for
    /// reading counts as one.
    pub primaries: usize,
    /// Whether the server is a replica, whose data may be older than that of its primary.
    pub is_replica: bool,
    /// The number of replicas of the primary that has the fewest.
    pub replicas: u64,
    /// What an acknowledged write survives, as in the properties of a store that is opened now.
    pub durability: Option<Durability>,
    /// What the servers write to disk, such as `append-only file, appendfsync everysec`.
    pub persistence: String,
    /// Whether connections are encrypted.
    pub is_encrypted: bool,
    /// The median time of a round trip.
    pub latency: Duration,
    /// Bytes of memory in use by all primaries, for all of their data.
    pub bytes: u64,
    /// Bytes of memory that all primaries may use; `None` without a limit.
    pub max_bytes: Option<u64>,
    /// What a primary does when its memory is full: the setting `maxmemory-policy`.
    pub eviction_policy: String,
    /// Settings that can lose data, and problems.
    pub warnings: Vec<RedisWarning>,
}

/// What can lose data or make a store unavailable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisWarning {
    /// A name for programs, such as `no_persistence`.
    pub code: &'static str,
    /// What it means, and what to do.
    pub text: String,
    /// Whether a store cannot be opened for writing because of it.
    pub refuses_writes: bool,
}

/// The state and the settings of one primary.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    /// The fields of INFO.
    info: HashMap<String, String>,
    /// What CONFIG GET says; empty if the user may not read it.
    settings: HashMap<String, String>,
    /// The fields of CLUSTER INFO; empty on a server that is in no cluster.
    cluster: HashMap<String, String>,
}

/// What a server writes to disk, from the weakest to the safest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Persistence {
    Nothing,
    /// Only copies of all data from time to time.
    Copies,
    /// Every write, but not when it reaches the disk.
    Written,
    /// Every write. The server hides when it reaches the disk: every second, unless it was set
    /// otherwise.
    Hidden,
    EverySecond,
    Always,
}

impl Persistence {
    fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Copies => "copies from time to time",
            Self::Written => "append-only file, appendfsync no",
            Self::Hidden => "append-only file, appendfsync unknown",
            Self::EverySecond => "append-only file, appendfsync everysec",
            Self::Always => "append-only file, appendfsync always",
        }
    }
}

impl Server {
    pub(super) fn read(client: &Client, address: &RedisAddress) -> Result<Self, StorageError> {
        let mut commands = vec![
            redis::cmd("INFO"),
            command("CONFIG", ["GET", "*append*"]),
            command("CONFIG", ["GET", "save"]),
            command("CONFIG", ["GET", MIN_REPLICAS]),
        ];
        if client.shards() > 1 {
            commands.push(command("CLUSTER", ["INFO"]));
            commands.push(command("CONFIG", ["GET", "cluster-require-full-coverage"]));
        }
        Self::of(address, client.on_master(address, &commands).map_err(failed)?)
    }

    /// Reads the replies: first that of INFO, and then those of CONFIG GET and CLUSTER INFO.
    pub(super) fn of(address: &RedisAddress, replies: Vec<Value>) -> Result<Self, StorageError> {
        let mut replies = replies.into_iter();
        let info = replies::next(&mut replies)?;
        if let Value::ServerError(error) = &info {
            return Err(failed(Failure::reply(address, error)));
        }
        let mut server = Self { info: fields(&replies::text(info)?), ..Self::default() };
        for reply in replies {
            match reply {
                // CONFIG is refused by many services.
                Value::ServerError(_) => {}
                Value::Array(_) => {
                    let mut texts = replies::texts(reply)?.into_iter();
                    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
                        server.settings.insert(name, value);
                    }
                }
                other => server.cluster = fields(&replies::text(other)?),
            }
        }
        Ok(server)
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        replies::number(self.info(name))
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The address of its primary, if it is a replica.
    fn primary(&self) -> Option<String> {
        let address = || format!("{}:{}", self.info("master_host"), self.info("master_port"));
        (self.info("role") == "slave").then(address)
    }

    fn version(&self) -> String {
        match self.info("valkey_version") {
            "" => format!("Redis {}", self.info("redis_version")),
            version => format!("Valkey {version}"),
        }
    }

    /// Whether the server syncs nothing, and will not sync what it has deferred.
    pub(super) fn has_synced(&self) -> bool {
        let copies = self.info("aof_rewrite_in_progress") == "1"
            || self.info("rdb_bgsave_in_progress") == "1";
        let defers = copies && self.setting("no-appendfsync-on-rewrite") == Some("yes");
        self.info("aof_pending_bio_fsync") == "0"
            && self.info("aof_last_write_status") == "ok"
            && !defers
    }

    fn persistence(&self) -> Persistence {
        if self.info("aof_enabled") == "1" {
            return match self.setting("appendfsync") {
                Some("always") => Persistence::Always,
                Some("no") => Persistence::Written,
                Some(_) => Persistence::EverySecond,
                None => Persistence::Hidden,
            };
        }
        match self.setting("save") {
            Some("") => Persistence::Nothing,
            _ => Persistence::Copies,
        }
    }

    /// Whether it removes keys when its memory is full, and has a limit.
    fn evicts(&self) -> bool {
        self.number("maxmemory") > 0 && self.info("maxmemory_policy") != KEEPS_ALL
    }

    /// How many replicas keep up and how many it needs for writes, if it has too few.
    fn lacking_replicas(&self) -> Option<(u64, u64)> {
        if self.primary().is_some() {
            return None;
        }
        // The server counts those that keep up only if it needs some.
        let keep_up = replies::number(self.info.get("min_slaves_good_slaves")?);
        let needed = replies::number(self.setting(MIN_REPLICAS)?);
        (keep_up < needed).then_some((keep_up, needed))
    }

    /// Refuses a server that removes keys when its memory is full.
    fn check_eviction(&self, address: &RedisAddress) -> Result<(), StorageError> {
        let policy = self.info("maxmemory_policy");
        if !self.evicts() {
            return Ok(());
        }
        Err(StorageError::Unsupported(format!(
            "Redis at {address} removes keys when its memory is full (maxmemory-policy {policy}), \
             which would lose data; set it to noeviction: CONFIG SET maxmemory-policy noeviction, \
             and in its configuration file"
        )))
    }
}

/// The lines `name:value` of a reply to INFO.
fn fields(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// The states of all primaries.
pub(super) fn servers(client: &Client) -> Result<Vec<(RedisAddress, Server)>, StorageError> {
    let masters = client.masters().into_iter();
    masters.map(|address| Server::read(client, &address).map(|server| (address, server))).collect()
}

/// Refuses servers that remove keys when their memory is full.
///
/// # Errors
/// [`StorageError::Unsupported`].
pub(super) fn check_eviction(servers: &[(RedisAddress, Server)]) -> Result<(), StorageError> {
    servers.iter().try_for_each(|(address, server)| server.check_eviction(address))
}

/// What an acknowledged write survives on each of these servers; `None` if it is in their
/// memory alone, or in copies that may be hours old.
pub(super) fn durability(servers: &[(RedisAddress, Server)]) -> Option<Durability> {
    match weakest(servers) {
        Persistence::Nothing | Persistence::Copies => None,
        Persistence::Written => Some(Durability::Os),
        Persistence::Hidden | Persistence::EverySecond => Some(Durability::Relaxed),
        Persistence::Always => Some(Durability::Sync),
    }
}

fn weakest(servers: &[(RedisAddress, Server)]) -> Persistence {
    let all = servers.iter().map(|(_, server)| server.persistence());
    all.min().unwrap_or(Persistence::Nothing)
}

/// Inspects the servers. The database need not have a store.
pub(super) fn inspect(
    database: &Database,
    options: &RedisOptions,
) -> Result<RedisReport, StorageError> {
    let servers = servers(&database.client)?;
    let sum = |name: &str| servers.iter().map(|(_, server)| server.number(name)).sum::<u64>();
    let replicas = servers.iter().map(|(_, server)| server.number("connected_slaves")).min();
    let has_limit = servers.iter().all(|(_, server)| server.number("maxmemory") > 0);
    let versions = servers.iter().map(|(_, server)| server.version());
    let policies = servers.iter().map(|(_, server)| server.info("maxmemory_policy"));
    let mut warnings = warnings(&servers, options.wait);
    warnings.extend(refused_notices(database, &options.prefix)?);
    Ok(RedisReport {
        version: versions.min().unwrap_or_default(),
        primaries: servers.len(),
        is_replica: servers.iter().any(|(_, server)| server.primary().is_some()),
        replicas: replicas.unwrap_or_default(),
        durability: durability(&servers),
        persistence: weakest(&servers).describe().to_owned(),
        is_encrypted: options.tls != TlsMode::Disable,
        latency: latency(database)?,
        bytes: sum("used_memory"),
        max_bytes: has_limit.then(|| sum("maxmemory")),
        // The dangerous one, if they differ.
        eviction_policy: policies
            .max_by_key(|policy| *policy != KEEPS_ALL)
            .unwrap_or_default()
            .to_owned(),
        warnings,
    })
}

/// A warning if the user may not publish, which commits do not report. Publishes a notice that
/// hosts ignore.
fn refused_notices(
    database: &Database,
    prefix: &str,
) -> Result<Option<RedisWarning>, StorageError> {
    let Database { client, keys, store_id, .. } = database;
    let owner = client.router().owner(Shard::FIRST).map_err(failed)?;
    let notice = [keys.channel(Shard::FIRST, store_id), String::new()];
    let publish = command(client.publish_command(), notice);
    let replies = client.on_master(&owner.address, &[publish]).map_err(failed)?;
    let is_refused = replies
        .iter()
        .any(|reply| matches!(reply, Value::ServerError(error) if error::code(error) == "NOPERM"));
    Ok(is_refused.then(|| RedisWarning {
        code: "no_notices",
        text: format!(
            "Redis at {} does not let the user publish to the store's channels: hosts find each \
             other's writes only when they ask for them, up to max_staleness later; give it \
             &e:{{{prefix}:* with ACL SETUSER",
            owner.address
        ),
        refuses_writes: false,
    }))
}

fn latency(database: &Database) -> Result<Duration, StorageError> {
    let mut latencies = Vec::new();
    for _ in 0..ROUND_TRIPS {
        let began = Instant::now();
        let exists: Cmd = command("EXISTS", [database.keys.store(Shard::FIRST)]);
        database.read(Shard::FIRST, exists)?;
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    Ok(latencies.get(ROUND_TRIPS / 2).copied().unwrap_or_default())
}

pub(super) fn warnings(servers: &[(RedisAddress, Server)], wait: u32) -> Vec<RedisWarning> {
    let mut warnings: Vec<RedisWarning> = Vec::new();
    let mut add = |code, text: String, refuses_writes: bool| {
        match warnings.iter_mut().find(|warning| warning.code == code) {
            // One is enough for all servers, the worst of them.
            Some(known) if refuses_writes && !known.refuses_writes => {
                *known = RedisWarning { code, text, refuses_writes };
            }
            Some(_) => {}
            None => warnings.push(RedisWarning { code, text, refuses_writes }),
        }
    };
    for (address, server) in servers {
        let at = format!("Redis at {address}");
        match server.persistence() {
            Persistence::Nothing => add(
                "no_persistence",
                format!(
                    "{at} writes nothing to disk: a restart loses the store; set appendonly yes"
                ),
                false,
            ),
            Persistence::Copies => add(
                "no_persistence",
                format!(
                    "{at} only copies its memory to disk from time to time: a restart loses the \
                     writes since the last copy; set appendonly yes"
                ),
                false,
            ),
            Persistence::Written => add(
                "appendfsync",
                format!(
                    "{at} has appendfsync no: a power cut loses the writes that its system has not \
                     written, about the last 30 seconds; set appendfsync always or everysec"
                ),
                false,
            ),
            Persistence::Hidden => add(
                "appendfsync",
                format!(
                    "{at} does not tell its appendfsync: with everysec, the default, a power cut \
                     loses the writes of the last second or two, with no about 30 seconds; allow \
                     config|get, or ask who runs it"
                ),
                false,
            ),
            Persistence::EverySecond => add(
                "appendfsync",
                format!(
                    "{at} has appendfsync everysec: a power cut loses the writes of the last second \
                     or two; set appendfsync always if it must lose none"
                ),
                false,
            ),
            Persistence::Always => {}
        }
        if let Some(primary) = server.primary() {
            let link = match server.info("master_link_status") {
                "up" => "follows",
                _ => "has lost its connection to",
            };
            add(
                "replica",
                format!(
                    "{at} is a replica that {link} {primary}: what it has may be older, and it \
                     refuses writes; name the primary, or use redis+sentinel://"
                ),
                true,
            );
        } else if server.number("connected_slaves") == 0 {
            add("no_replica", format!("{at} has no replica: losing its disk loses data"), false);
        } else {
            // The server counts them only if it is set.
            let is_bounded = server.info.contains_key("min_slaves_good_slaves");
            let limit = match (is_bounded, wait) {
                (false, 0) => "set min-replicas-to-write, and wait in the URL, to make it unlikely",
                (true, 0) => {
                    "min-replicas-to-write limits how many; set wait in the URL to make it unlikely"
                }
                (false, _) => {
                    "wait makes it unlikely, but does not prevent it; set min-replicas-to-write, \
                     too"
                }
                (true, _) => {
                    "min-replicas-to-write and wait make it unlikely, but do not prevent it"
                }
            };
            add(
                "asynchronous_replication",
                format!(
                    "{at} acknowledges writes before its replicas have them: a failover can lose \
                     acknowledged writes; {limit}"
                ),
                false,
            );
        }
        if let Some((keep_up, needed)) = server.lacking_replicas() {
            add(
                "too_few_replicas",
                format!(
                    "{at} refuses writes, because {keep_up} replicas keep up and its {MIN_REPLICAS} \
                     is {needed}; start the replicas, or lower that setting"
                ),
                true,
            );
        } else if server.primary().is_none() && server.number("connected_slaves") < wait.into() {
            add(
                "too_few_replicas",
                format!(
                    "{at} has {} replicas, and the URL has wait={wait}: each write fails, although \
                     it is made; start the replicas, or lower wait",
                    server.number("connected_slaves")
                ),
                false,
            );
        }
        let policy = server.info("maxmemory_policy");
        if server.evicts() {
            add(
                "eviction",
                format!(
                    "{at} removes keys when its memory is full (maxmemory-policy {policy}), so the \
                     store does not open for writing; set it to noeviction"
                ),
                true,
            );
        } else if policy != KEEPS_ALL {
            add(
                "eviction",
                format!(
                    "{at} would remove keys if its memory had a limit (maxmemory-policy {policy}); \
                     set it to noeviction, or the store will not open for writing once there is one"
                ),
                false,
            );
        }
        let slots = server.cluster.get("cluster_slots_ok");
        let covers_all = slots.is_none_or(|slots| slots == SLOTS);
        if !covers_all || server.setting("cluster-require-full-coverage") == Some("no") {
            add(
                "cluster_not_full",
                format!(
                    "the cluster of {at} has {} of {SLOTS} slots, or goes on without some of them \
                     (cluster-require-full-coverage no): components of the others cannot be used",
                    slots.map_or(SLOTS, String::as_str)
                ),
                false,
            );
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(info: &str, settings: &[(&str, &str)]) -> Vec<(RedisAddress, Server)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let server = Server {
            info: fields(info),
            settings: settings.iter().map(owned).collect(),
            cluster: HashMap::new(),
        };
        vec![(RedisAddress::new("h", 6379), server)]
    }

    fn codes(servers: &[(RedisAddress, Server)]) -> Vec<&'static str> {
        warnings(servers, 0).into_iter().map(|warning| warning.code).collect()
    }

    const SAFE: &str =
        "aof_enabled:1\r\nconnected_slaves:1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n";

    #[test]
    fn the_durability_is_that_of_the_append_only_file() {
        let with = |value| server(SAFE, &[("appendfsync", value)]);
        assert_eq!(durability(&with("always")), Some(Durability::Sync));
        assert_eq!(durability(&with("everysec")), Some(Durability::Relaxed));
        assert_eq!(durability(&with("no")), Some(Durability::Os));
        // The server hides its settings.
        assert_eq!(durability(&server(SAFE, &[])), Some(Durability::Relaxed));
        assert_eq!(server(SAFE, &[])[0].1.persistence(), Persistence::Hidden);
        assert_eq!(durability(&server("aof_enabled:0", &[("save", "")])), None);
        assert_eq!(durability(&server("aof_enabled:0", &[("save", "60 1")])), None);
        let two = [with("always"), with("everysec")].concat();
        assert_eq!(durability(&two), Some(Durability::Relaxed));
    }

    #[test]
    fn what_loses_data_is_a_warning() {
        assert_eq!(
            codes(&server(SAFE, &[("appendfsync", "always")])),
            ["asynchronous_replication"]
        );
        assert_eq!(codes(&server(SAFE, &[])), ["appendfsync", "asynchronous_replication"]);
        let nothing = server("maxmemory_policy:allkeys-lru", &[("save", "")]);
        assert_eq!(codes(&nothing), ["no_persistence", "no_replica", "eviction"]);
        let mut part = server(SAFE, &[("appendfsync", "always")]);
        part[0].1.cluster = fields("cluster_slots_ok:16383");
        assert_eq!(codes(&part), ["asynchronous_replication", "cluster_not_full"]);
    }

    #[test]
    fn a_server_that_hides_its_settings_is_not_said_to_have_any() {
        let all = warnings(&server(SAFE, &[]), 0);
        assert!(all[0].text.contains("does not tell its appendfsync"), "{}", all[0].text);
    }

    #[test]
    fn what_a_failover_can_lose_depends_on_the_settings() {
        let bounded = format!("{SAFE}min_slaves_good_slaves:1\r\n");
        for (info, wait, expected) in [
            (SAFE, 0, "set min-replicas-to-write, and wait"),
            (SAFE, 1, "set min-replicas-to-write, too"),
            (&bounded, 0, "limits how many; set wait"),
            (&bounded, 1, "make it unlikely, but do not prevent it"),
        ] {
            let all = warnings(&server(info, &[("appendfsync", "always")]), wait);
            assert!(all[0].text.contains(expected), "{}", all[0].text);
        }
    }

    #[test]
    fn writes_that_fail_for_want_of_replicas_are_a_warning() {
        let found = |info: &str, needed: &str, wait| {
            let settings = [("appendfsync", "always"), ("min-replicas-to-write", needed)];
            let all = warnings(&server(info, &settings), wait).into_iter();
            let mut few = all.filter(|warning| warning.code == "too_few_replicas");
            few.next().map(|warning| (warning.refuses_writes, warning.text))
        };
        let one = format!("{SAFE}min_slaves_good_slaves:1\r\n");
        assert_eq!(found(SAFE, "0", 1), None);
        assert_eq!(found(&one, "1", 1), None);
        let (refuses, text) = found(&one, "2", 0).unwrap();
        assert!(refuses && text.contains("1 replicas keep up"), "{text}");
        let (refuses, text) = found(SAFE, "0", 2).unwrap();
        assert!(!refuses && text.contains("wait=2"), "{text}");
        // What a replica lacks is its primary's affair.
        assert_eq!(found(&format!("{one}role:slave\r\nmaster_host:h\r\n"), "2", 2), None);
    }

    #[test]
    fn a_replica_is_not_taken_for_a_primary() {
        let info = format!(
            "{SAFE}role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n\
             master_link_status:up\r\n"
        );
        let replica = server(&info, &[("appendfsync", "always")]);
        assert_eq!(codes(&replica), ["replica"]);
        let text = &warnings(&replica, 0)[0].text;
        assert!(text.contains("follows 10.0.0.1:6379"), "{text}");
        let info = info.replace("status:up", "status:down");
        let text = &warnings(&server(&info, &[("appendfsync", "always")]), 0)[0].text;
        assert!(text.contains("has lost its connection to 10.0.0.1:6379"), "{text}");
    }

    #[test]
    fn only_a_full_memory_that_removes_keys_is_refused() {
        let with = |limit, policy| {
            check_eviction(&server(&format!("maxmemory:{limit}\nmaxmemory_policy:{policy}"), &[]))
        };
        assert!(with(0, "allkeys-lru").is_ok());
        assert!(with(1, "noeviction").is_ok());
        let refuses = |limit| {
            let info = format!("maxmemory:{limit}\nmaxmemory_policy:allkeys-lru");
            warnings(&server(&info, &[]), 0).iter().any(|warning| warning.refuses_writes)
        };
        assert!(refuses(1) && !refuses(0));
        let error = with(1, "volatile-ttl").unwrap_err().to_string();
        assert!(error.contains("noeviction") && error.contains("volatile-ttl"), "{error}");
    }

    #[test]
    fn deferred_writes_are_not_synced() {
        let synced = |info: &str, settings| {
            let info = format!("aof_pending_bio_fsync:0\naof_last_write_status:ok\n{info}");
            server(&info, settings)[0].1.has_synced()
        };
        assert!(synced("", &[]));
        assert!(!synced("aof_pending_bio_fsync:1", &[]));
        assert!(!synced("aof_last_write_status:err", &[]));
        assert!(synced("aof_rewrite_in_progress:1", &[("no-appendfsync-on-rewrite", "no")]));
        assert!(!synced("aof_rewrite_in_progress:1", &[("no-appendfsync-on-rewrite", "yes")]));
    }

    #[test]
    fn the_version_names_the_product() {
        assert_eq!(server("redis_version:7.0.15", &[])[0].1.version(), "Redis 7.0.15");
        let valkey = server("redis_version:7.2.4\nvalkey_version:8.0.1", &[]);
        assert_eq!(valkey[0].1.version(), "Valkey 8.0.1");
    }
}
