//! The same over servers.

mod history;
#[cfg(feature = "redis")]
mod lost_writes;

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rstest::rstest;
use storage_host::{
    Budget, CacheConfig, Change, Commit, ComponentChain, ComponentSettings, ComponentStorage,
    DEFAULT_MAX_STALENESS, ManualClock, Mode, Revision, SharedStore, StorageError, StorageHost,
    Store, StoreProperties, StoreUrl, Watcher, forward_storage,
};
use test_servers::Proxy;

use crate::register::assert_linearizable;
use crate::server::{Engine, empty};
use crate::support::{Kind, id};
use history::{History, Read, Write};

const L: Duration = Duration::from_millis(200);

const WRITES: u64 = 10_000;

const KEYS: [&str; 4] = ["a", "b", "c", "d"];

const COMPONENT: &str = "app/notes/home";

/// What happens to the notices of the other host, and to the connections of the second host.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Notices {
    Arrive,
    Never,
    /// Its connections are cut, and for a while it gets no new ones.
    AreInterrupted,
}

fn open(url: &str) -> Arc<dyn Store> {
    url.parse::<StoreUrl>().unwrap().open(Mode::ReadWrite).unwrap()
}

/// A store that does not tell of the commits of other hosts.
struct Deaf(Arc<dyn Store>);

impl ComponentStorage for Deaf {
    forward_storage!(self => self.0);
}

#[expect(clippy::missing_trait_methods, reason = "the others are not called")]
impl Store for Deaf {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl SharedStore for Deaf {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.0.shared().unwrap().watch(Arc::new(OwnChanges(watcher)));
    }

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        self.0.shared().unwrap().component_revisions(prefixes)
    }
}

struct OwnChanges(Arc<dyn Watcher>);

impl Watcher for OwnChanges {
    fn changed(&self, change: &Change) {
        if change.is_own {
            self.0.changed(change);
        }
    }
}

/// A proxy of the server, and the URL of the store through it.
fn through_proxy(url: &str) -> (Proxy, String) {
    let parsed: StoreUrl = url.parse().unwrap();
    let (host, port) = match (parsed.server(), parsed.servers()) {
        (Some(server), _) => (server.host(), server.port()),
        (None, Some(servers)) => (servers.addresses()[0].host(), servers.addresses()[0].port()),
        (None, None) => panic!("{url} names no server"),
    };
    let server = format!("{host}:{}", port.unwrap());
    let proxy = Proxy::start(server.to_socket_addrs().unwrap().next().unwrap()).unwrap();
    // Encrypted for the server's name, it would not work through a proxy.
    let url = url.replacen(&server, &proxy.address().to_string(), 1);
    (proxy, url)
}

/// Two hosts that write and read the same keys, until all writes are done.
struct Run {
    hosts: [Arc<ComponentChain>; 2],
    proxy: Option<Proxy>,
    written: AtomicU64,
    history: Mutex<History>,
}

impl Run {
    /// The work of one thread.
    fn work(&self, host: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut own = History::default();
        while self.written.load(Ordering::Relaxed) < WRITES {
            let key = random.usize(..KEYS.len());
            if random.u8(..8) == 0 {
                self.write(host, key, &mut own);
            } else {
                self.read(host, key, random.bool(), &mut own);
            }
        }
        self.history.lock().unwrap().add(own);
    }

    fn write(&self, host: usize, key: usize, own: &mut History) {
        let value = self.written.fetch_add(1, Ordering::Relaxed);
        if let Some(proxy) = &self.proxy {
            // The other host goes on and counts.
            match value % 1_000 {
                300 => {
                    proxy.refuse();
                    proxy.cut();
                }
                600 => proxy.accept(),
                _ => {}
            }
        }
        let began = Instant::now();
        let commit = Commit::new().set(KEYS[key], value.to_string().as_str().into());
        match self.hosts[host].commit(commit) {
            Ok(revision) => {
                own.writes.push(Write { key, value, revision, host, began, ended: Instant::now() });
            }
            // Its outcome is unknown.
            Err(error) => assert!(self.proxy.is_some() && host == 1, "{error}"),
        }
    }

    fn read(&self, host: usize, key: usize, at_once: bool, own: &mut History) {
        let began = Instant::now();
        let chain = &self.hosts[host];
        let found = match chain.try_get("", KEYS[key]).filter(|_| at_once) {
            Some(found) => found,
            None => match chain.get(KEYS[key]) {
                Ok(found) => found,
                Err(error) => {
                    assert!(self.proxy.is_some() && host == 1, "{error}");
                    return;
                }
            },
        };
        let ended = Instant::now();
        let value =
            found.map(|value| std::str::from_utf8(value.as_bytes()).unwrap().parse().unwrap());
        own.reads.push(Read { key, value, host, began, ended });
    }
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn no_read_is_older_than_the_maximum_staleness_or_an_own_write(
    #[case] engine: Engine,
    #[values(Kind::Private, Kind::Shared)] kind: Kind,
    #[values(Notices::Arrive, Notices::Never, Notices::AreInterrupted)] notices: Notices,
) {
    if engine == Engine::RedisCluster && notices == Notices::AreInterrupted {
        println!("SKIPPED: the nodes of a cluster name each other, and not the proxy");
        return;
    }
    let Some(url) = engine.url("staleness") else { return };
    let limits = "connect_timeout_ms=1000&total_timeout_ms=3000";
    let fast = format!("{}&{limits}", engine.relaxed(&url));
    let (proxy, second) = match notices {
        Notices::AreInterrupted => {
            let (proxy, url) = through_proxy(&fast);
            (Some(proxy), url)
        }
        _ => (None, fast.clone()),
    };
    let hosts = [fast, second].map(|url| {
        let store: Arc<dyn Store> = match notices {
            Notices::Never => Arc::new(Deaf(open(&url))),
            _ => open(&url),
        };
        let builder = StorageHost::builder(store).max_staleness(L);
        match kind {
            Kind::Private => builder.cache(CacheConfig::default()).build(),
            Kind::Shared => builder.shared_cache(CacheConfig::default()).build(),
        }
    });
    let chains = hosts.each_ref().map(|host| host.component(&id(COMPONENT)));
    let run = Run { hosts: chains, proxy, written: AtomicU64::new(0), history: Mutex::default() };
    thread::scope(|scope| {
        for thread in 0..6_usize {
            let run = &run;
            scope.spawn(move || run.work(thread % 2, thread as u64));
        }
    });
    let history = run.history.into_inner().unwrap();
    let stale = history.check(L).unwrap();
    for (host, chain) in hosts.iter().zip(&run.hosts) {
        let (stats, coherence) = (chain.cache_stats(), host.coherence_stats());
        println!("{kind:?}, {notices:?}: {stale} old values, {stats:?}, {coherence:?}");
        assert!(stats.hits > 0, "{stats:?}");
    }
    drop((hosts, run.hosts));
    empty(&url);
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn a_host_that_was_paused_reads_from_the_server(
    #[case] engine: Engine,
    #[values(false, true)] machine_sleeps: bool,
) {
    let Some(url) = engine.url("paused") else { return };
    let clock = ManualClock::new();
    let host = StorageHost::builder(Arc::new(Deaf(open(&url)))).clock(clock.clock()).build();
    let chain = host.component(&id(COMPONENT));
    chain.get("key").unwrap();
    host.poll_changes().unwrap();
    chain.set("key", "old".into()).unwrap();
    StorageHost::new(open(&url)).component(&id(COMPONENT)).set("key", "new".into()).unwrap();
    assert_eq!(chain.get("key"), Ok(Some("old".into())));
    match machine_sleeps {
        true => clock.sleep(10 * DEFAULT_MAX_STALENESS),
        false => clock.advance(10 * DEFAULT_MAX_STALENESS),
    }
    assert_eq!(chain.try_get("", "key"), None);
    assert_eq!(chain.get("key"), Ok(Some("new".into())));
    empty(&url);
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn two_hosts_without_a_cache_are_linearizable(#[case] engine: Engine) {
    let Some(url) = engine.url("register") else { return };
    for round in 0..50 {
        empty(&url);
        assert_linearizable(round, || open(&url));
    }
    empty(&url);
}

/// Runs 64 tasks, half of them on each of two hosts.
fn on_two_hosts(hosts: &[StorageHost; 2], task: impl Fn(usize, &StorageHost) + Sync) {
    thread::scope(|scope| {
        for number in 0..64 {
            let task = &task;
            scope.spawn(move || task(number, &hosts[number % 2]));
        }
    });
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn tasks_on_two_hosts_never_exceed_a_quota(#[case] engine: Engine) {
    let Some(url) = engine.url("quota") else { return };
    let hosts = [(); 2].map(|()| {
        let quota = Some(Budget { max_bytes: 10_000, max_keys: 40 });
        let settings = ComponentSettings { quota, ..Default::default() };
        StorageHost::builder(open(&url)).component(id(COMPONENT), settings).build()
    });
    let written = AtomicU64::new(0);
    on_two_hosts(&hosts, |task, host| {
        let chain = host.component(&id(COMPONENT));
        for round in 0..4 {
            match chain.set(&format!("{task:02}-{round}"), "value".into()) {
                Ok(()) => drop(written.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert_eq!(error, StorageError::QuotaExceeded),
            }
        }
    });
    assert_eq!(written.into_inner(), 40);
    for host in &hosts {
        assert_eq!(host.component(&id(COMPONENT)).list_keys(None).unwrap().len(), 40);
    }
    assert_eq!(open(&url).usage(Some("app/notes/home/")).unwrap().keys, 40);
    empty(&url);
}

#[rstest]
#[cfg_attr(feature = "postgres", case::postgres(Engine::Postgres))]
#[cfg_attr(feature = "redis", case::redis(Engine::Redis))]
#[cfg_attr(feature = "redis", case::redis_cluster(Engine::RedisCluster))]
fn components_on_two_hosts_see_only_their_own_keys(#[case] engine: Engine) {
    const COMPONENTS: usize = 8;
    let Some(url) = engine.url("isolation") else { return };
    let hosts = [(); 2].map(|()| StorageHost::new(open(&url)));
    let component = |task: usize| format!("app/notes/{}", task % COMPONENTS);
    let chain_of = |task, host: &StorageHost| host.component(&id(&component(task)));
    on_two_hosts(&hosts, |task, host| {
        let chain = chain_of(task, host);
        for round in 0..4 {
            let own = component(task);
            // The same keys in all components, and some of one task alone.
            chain.set(&format!("same-{round}"), own.as_str().into()).unwrap();
            chain.set(&format!("{task:02}-{round}"), own.as_str().into()).unwrap();
            let found = chain.get(&format!("same-{round}")).unwrap();
            assert_eq!(found, Some(own.as_str().into()));
        }
    });
    for (number, host) in hosts.iter().enumerate() {
        for task in 0..COMPONENTS {
            let chain = chain_of(task, host);
            let tasks = (0..64).filter(|other| other % COMPONENTS == task);
            let names = tasks.map(|task| format!("{task:02}")).chain(["same".to_owned()]);
            let expected: BTreeSet<String> =
                names.flat_map(|name| (0..4).map(move |round| format!("{name}-{round}"))).collect();
            let listed = chain.list_keys(None).unwrap();
            assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), expected, "host {number}");
            let keys: Vec<&str> = listed.iter().map(String::as_str).collect();
            for value in chain.get_many(&keys).unwrap() {
                assert_eq!(value, Some(component(task).as_str().into()));
            }
        }
    }
    empty(&url);
}
