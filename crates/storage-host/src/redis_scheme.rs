//! The schemes of stores in Redis or Valkey: one server, a cluster, and a master that sentinels
//! know.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use storage_backends::{
    Deployment, RedisAddress, RedisOptions, RedisReport, RedisStorage, RedisWarning,
    SentinelDeployment, TlsMode,
};
use storage_core::{Durability, StorageError, Store, StoreProperties};

use crate::scheme::{Inspection, Location, Mode, Scheme, Setting};
use crate::servers::Servers;

/// The variables for a user and a password that are not in the URL, and for those of sentinels.
const USER: &str = "REDIS_USERNAME";
const PASSWORD: &str = "REDIS_PASSWORD";
const SENTINEL_USER: &str = "REDIS_SENTINEL_USERNAME";
const SENTINEL_PASSWORD: &str = "REDIS_SENTINEL_PASSWORD";

/// The settings of time, in milliseconds.
const LIMITS: [&str; 4] =
    ["wait_timeout_ms", "connect_timeout_ms", "reply_timeout_ms", "total_timeout_ms"];

pub(super) enum Redis {
    /// `redis:`
    Single,
    /// `rediss:`
    SingleWithTls,
    /// `redis+cluster:`
    Cluster,
    /// `redis+sentinel:`
    Sentinel,
}

const fn settings(tls_modes: &'static [&'static str]) -> [Setting; 9] {
    [
        Setting::text(
            "prefix",
            RedisOptions::is_prefix,
            "1 to 63 lower-case letters, digits, underscores, hyphens and periods",
        ),
        Setting::number("wait", "replicas"),
        Setting::number("wait_timeout_ms", "milliseconds"),
        Setting::number("pool_size", "connections"),
        Setting::number("connect_timeout_ms", "milliseconds"),
        Setting::number("reply_timeout_ms", "milliseconds"),
        Setting::number("total_timeout_ms", "milliseconds"),
        Setting::one_of("sslmode", tls_modes),
        Setting::text("sslrootcert", |text| !text.is_empty(), "the path of a file"),
    ]
}

impl Scheme for Redis {
    fn name(&self) -> &'static str {
        match self {
            Self::Single => "redis",
            Self::SingleWithTls => "rediss",
            Self::Cluster => "redis+cluster",
            Self::Sentinel => "redis+sentinel",
        }
    }

    fn has_path(&self) -> bool {
        false
    }

    fn has_servers(&self) -> bool {
        true
    }

    fn password_variable(&self) -> Option<&'static str> {
        Some(PASSWORD)
    }

    fn settings(&self) -> &'static [Setting] {
        const PLAIN: &[Setting] = &settings(&["disable", "require", "verify-full"]);
        const WITH_TLS: &[Setting] = &settings(&["verify-full", "require"]);
        if matches!(self, Self::SingleWithTls) { WITH_TLS } else { PLAIN }
    }

    fn check(&self, location: &Location) -> Result<(), String> {
        let Some(servers) = location.servers() else { return Err("names no server".to_owned()) };
        self.check_servers(servers)?;
        if let Some(limit) = LIMITS.into_iter().find(|name| location.number(name) == Some(0)) {
            return Err(format!("has {limit}=0, which is not a time limit: use at least 1"));
        }
        if location.number("pool_size") == Some(0) {
            return Err("has pool_size=0, so it has no connections: use at least 1".to_owned());
        }
        if location.number("wait").is_some_and(|replicas| u32::try_from(replicas).is_err()) {
            return Err("has a wait for more replicas than a server can have".to_owned());
        }
        if location.setting("sslrootcert").is_some() && self.tls(location) == TlsMode::Disable {
            return Err("has sslrootcert, but its connections are not encrypted: add \
                        sslmode=verify-full"
                .to_owned());
        }
        Ok(())
    }

    fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
        let options = self.options(location)?;
        Ok(Arc::new(match mode {
            Mode::ReadWrite => RedisStorage::open(&options)?,
            Mode::ReadWriteExisting => RedisStorage::open_existing(&options)?,
            Mode::ReadOnly => RedisStorage::open_read_only(&options)?,
        }))
    }

    fn exists(&self, location: &Location) -> Result<bool, StorageError> {
        RedisStorage::exists(&self.options(location)?)
    }

    fn inspect(&self, location: &Location) -> Result<Inspection, StorageError> {
        let store = RedisStorage::open_read_only(&self.options(location)?)?;
        let report = store.inspect()?;
        let warnings = report.warnings.iter().map(finding).collect();
        Ok(Inspection { warnings, ..inspection(&report) })
    }

    fn inspect_server(&self, location: &Location) -> Result<Inspection, StorageError> {
        let report = RedisStorage::inspect_servers(&self.options(location)?)?;
        let (problems, warnings): (Vec<_>, Vec<_>) =
            report.warnings.iter().partition(|warning| warning.refuses_writes);
        let mut properties = StoreProperties::new("redis").with_failover_can_lose_writes(true);
        if let Some(durability) = report.durability {
            properties = properties.with_durability(durability);
        }
        Ok(Inspection {
            problems: problems.into_iter().map(finding).collect(),
            warnings: warnings.into_iter().map(finding).collect(),
            properties: Some(properties),
            ..inspection(&report)
        })
    }
}

impl Redis {
    /// Refuses servers that this kind of deployment cannot have.
    fn check_servers(&self, servers: &Servers) -> Result<(), String> {
        let name = servers.name();
        match self {
            Self::Single | Self::SingleWithTls if servers.addresses().len() > 1 => {
                Err("names several servers: keep one, or use redis+cluster: or redis+sentinel:"
                    .to_owned())
            }
            Self::Single | Self::SingleWithTls => match name.map(str::parse::<u32>) {
                Some(Err(_)) => Err("has a database that is not a number".to_owned()),
                _ => Ok(()),
            },
            Self::Cluster if name.is_some_and(|name| name != "0") => {
                Err("names a database, but a cluster has only one: remove it, and separate stores with \
                     ?prefix=".to_owned())
            }
            Self::Sentinel if name.is_none() => {
                Err("names no master: put a slash and its name after the sentinels".to_owned())
            }
            Self::Cluster | Self::Sentinel => Ok(()),
        }
    }

    fn tls(&self, location: &Location) -> TlsMode {
        match (location.setting("sslmode"), self) {
            (Some("require"), _) => TlsMode::Require,
            (Some("verify-full"), _) | (None, Self::SingleWithTls) => TlsMode::VerifyFull,
            _ => TlsMode::Disable,
        }
    }

    fn options(&self, location: &Location) -> Result<RedisOptions, StorageError> {
        let deployed = location.servers().and_then(|found| Some((found, self.deployment(found)?)));
        let Some((servers, deployment)) = deployed else {
            return Err(StorageError::Unsupported("the URL names no server".into()));
        };
        let mut options = RedisOptions::new(deployment).with_tls(self.tls(location));
        if let Some(user) = servers.user().map(str::to_owned).or_else(|| variable(USER)) {
            options = options.with_user(user);
        }
        let password = servers.password().map(str::to_owned);
        if let Some(password) = password.or_else(|| variable(PASSWORD)) {
            options = options.with_password(password);
        }
        if let Self::Single | Self::SingleWithTls = self
            && let Some(Ok(database)) = servers.name().map(str::parse)
        {
            options = options.with_database(database);
        }
        if let Some(prefix) = location.setting("prefix") {
            options = options.with_prefix(prefix);
        }
        if let Some(Ok(replicas)) = location.number("wait").map(u32::try_from) {
            options = options.with_wait(replicas);
        }
        if let Some(connections) = location.bytes("pool_size") {
            options = options.with_pool_size(connections);
        }
        let limit = |name| location.number(name).map(Duration::from_millis);
        if let Some(limit) = limit("wait_timeout_ms") {
            options = options.with_wait_timeout(limit);
        }
        if let Some(limit) = limit("connect_timeout_ms") {
            options = options.with_connect_timeout(limit);
        }
        if let Some(limit) = limit("reply_timeout_ms") {
            options = options.with_reply_timeout(limit);
        }
        if let Some(limit) = limit("total_timeout_ms") {
            options = options.with_total_timeout(limit);
        }
        if let Some(file) = location.setting("sslrootcert") {
            options = options.with_root_certificates(file);
        }
        Ok(options)
    }

    /// `None` without a server.
    fn deployment(&self, servers: &Servers) -> Option<Deployment> {
        let default_port = match self {
            Self::Sentinel => RedisAddress::DEFAULT_SENTINEL_PORT,
            _ => RedisAddress::DEFAULT_PORT,
        };
        let mut addresses = servers.addresses().iter().map(|address| {
            RedisAddress::new(address.host(), address.port().unwrap_or(default_port))
        });
        Some(match self {
            Self::Single | Self::SingleWithTls => Deployment::Single(addresses.next()?),
            Self::Cluster => Deployment::Cluster(addresses.collect()),
            Self::Sentinel => {
                let mut sentinels = SentinelDeployment::new(addresses.collect(), servers.name()?);
                if let Some(user) = variable(SENTINEL_USER) {
                    sentinels = sentinels.with_user(user);
                }
                if let Some(password) = variable(SENTINEL_PASSWORD) {
                    sentinels = sentinels.with_password(password);
                }
                Deployment::Sentinel(sentinels)
            }
        })
    }
}

/// A variable of the environment; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn finding(warning: &RedisWarning) -> (&'static str, String) {
    (warning.code, warning.text.clone())
}

/// What is the same with and without a store.
fn inspection(report: &RedisReport) -> Inspection {
    let encrypted = if report.is_encrypted { "encrypted" } else { "not encrypted" };
    let latency = format!("{:.2} ms", report.latency.as_secs_f64() * 1000.0);
    let replicas = match report.replicas {
        1 => "1 replica".to_owned(),
        replicas => format!("{replicas} replicas"),
    };
    let servers = match report.primaries {
        _ if report.is_replica => "a replica".to_owned(),
        1 => format!("1 primary with {replicas}"),
        primaries => format!("{primaries} primaries, each with at least {replicas}"),
    };
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let limit = match report.max_bytes {
        Some(limit) => format!("at most {}", mebibytes(limit)),
        None => "no limit".to_owned(),
    };
    let survives = match report.durability {
        Some(Durability::Sync) => "sync: writes survive a power cut of a server",
        Some(Durability::Os) => "os: writes survive a killed server, but not a power cut",
        Some(Durability::Relaxed) => {
            "relaxed: a power cut of a server can lose the last two seconds"
        }
        None => "none: a server that stops can lose writes, or everything",
    };
    Inspection {
        facts: vec![
            ("server", format!("{}, {servers}", report.version)),
            ("connection", format!("{encrypted}, a round trip takes {latency}")),
            (
                "memory",
                format!(
                    "{} in use by all data on the servers, {limit}, {}",
                    mebibytes(report.bytes),
                    report.eviction_policy
                ),
            ),
        ],
        durability: Some(format!("{survives} ({})", report.persistence)),
        // The bytes are known only of all data together.
        ..Inspection::default()
    }
}

#[cfg(test)]
mod tests {
    use crate::StoreUrl;

    fn problem(url: &str) -> String {
        url.parse::<StoreUrl>().unwrap_err().to_string()
    }

    #[test]
    fn each_deployment_has_a_scheme() {
        for (url, shown) in [
            ("redis://h", "redis://h"),
            ("REDIS://:s3cret@h:1/0?prefix=notes", "redis://h:1/0?prefix=notes"),
            ("rediss://ada:s3cret@[::1]/2?sslmode=verify-full", "rediss://ada@[::1]/2"),
            ("redis+cluster://h1:7000,h2/?wait=1", "redis+cluster://h1:7000,h2?wait=1"),
            ("redis+sentinel://h1,h2:1/main?sslmode=disable", "redis+sentinel://h1,h2:1/main"),
        ] {
            let parsed: StoreUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse::<StoreUrl>().unwrap().to_string(), shown);
            assert!(parsed.is_on_server() && parsed.is_persistent() && parsed.path().is_none());
            assert_eq!((parsed.durability(), parsed.relaxed()), (None, parsed.clone()));
            assert!(!format!("{parsed:?}").contains("s3cret"));
            let password = url.contains("s3cret").then_some(("REDIS_PASSWORD", "s3cret"));
            assert_eq!(parsed.password(), password);
        }
    }

    #[cfg(feature = "manifest")]
    #[test]
    fn a_manifest_can_name_several_redis_servers() {
        let text = "store = 'redis+cluster://ada:s3cret@h1:1,h2?wait=1'";
        let manifest: crate::Manifest = text.parse().unwrap();
        let store = manifest.relative_to("/srv/storage.toml").store.unwrap();
        assert_eq!(store.to_string(), "redis+cluster://ada@h1:1,h2?wait=1");
        let text = "store = 'redis+sentinel://ada:s3cret@h1:1,h2'";
        let message = text.parse::<crate::Manifest>().unwrap_err().to_string();
        assert!(message.contains("names no master") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn impossible_servers_and_settings_are_refused() {
        for (url, text) in [
            ("redis:", "names no server"),
            ("redis:u:secret@h/0", "names no server"),
            ("redis://u:secret@/0", "names no host"),
            ("redis://u:secret/0", "has a port"),
            ("redis://:secret@h1,h2", "names several servers"),
            ("redis://:secret@h/one", "has a database that is not a number"),
            ("redis://:secret@h/-1", "has a database that is not a number"),
            ("redis://:secret@h/4294967296", "has a database that is not a number"),
            ("redis+cluster://:secret@h1,h2/1", "a cluster has only one"),
            ("redis+sentinel://:secret@h1,h2", "names no master"),
            ("redis+sentinel://:secret@h1,h2/", "names no master"),
            ("redis://:secret@h?prefix=A", "cannot have prefix=A"),
            ("redis://:secret@h?prefix={a}", "cannot have prefix={a}"),
            ("redis://:secret@h?prefix=", "cannot have prefix=; it is 1 to 63"),
            ("redis://:secret@h?wait=-1", "it is a number of replicas"),
            ("redis://:secret@h?wait=4294967296", "more replicas"),
            ("redis://:secret@h?pool_size=x", "it is a number of connections"),
            ("redis://:secret@h?pool_size=0", "use at least 1"),
            ("redis://:secret@[::1", "not in brackets"),
            ("redis+cluster://:secret@h1,,h2", "a comma without a host"),
            ("redis://:secret@h?sslmode=prefer", "cannot have sslmode=prefer"),
            ("rediss://:secret@h?sslmode=disable", "cannot have sslmode=disable"),
            ("redis://:secret@h?sslrootcert=ca.crt", "add sslmode=verify-full"),
            ("redis://:secret@h?durability=sync", "has no setting \"durability\""),
            ("valkey://:secret@h", "; write redis: for it"),
            ("rediss+cluster://:secret@h", "; add ?sslmode=verify-full to"),
            ("redis://:secret@h?password=secret", "has no setting \"password\""),
            ("redis://:secret\n@h", "has a line break"),
            ("redis://:secret@h\n", "ends with a line break"),
        ] {
            let problem = problem(url);
            assert!(problem.contains(text), "{url}: {problem}");
            assert!(!problem.contains("secret"), "{url}: {problem}");
        }
        for limit in super::LIMITS {
            let problem = problem(&format!("redis://h?{limit}=0"));
            assert!(
                problem.ends_with(&format!("{limit}=0, which is not a time limit: use at least 1")),
                "{problem}"
            );
        }
        assert!("rediss://h?sslrootcert=ca.crt".parse::<StoreUrl>().is_ok());
    }
}
