//! Stores whose servers restart, fail over, encrypt, or hold other stores too.

use std::sync::Mutex;
use std::thread;

use storage_backends::{Deployment, RedisAddress, SentinelDeployment, TlsMode};
use storage_core::{Change, Watcher};
use test_servers::{Redis, RedisCluster, RedisSentinel};

use super::errors::{is_skipped, single};
use super::*;

const KEY: &str = "app/notes/home/a";

fn address(server: &Redis) -> RedisAddress {
    RedisAddress::new(server.address().ip().to_string(), server.address().port())
}

fn revision(store: &RedisStorage, key: &str) -> Revision {
    store.get_versioned(key).unwrap().unwrap().revision
}

/// The revisions that a watcher was told.
#[derive(Default)]
struct Told(Mutex<Vec<Revision>>);

impl Watcher for Told {
    fn changed(&self, change: &Change) {
        self.0.lock().unwrap().push(change.revision);
    }
}

/// Writes until a watcher of another host is told of a write.
#[track_caller]
fn is_heard(store: &RedisStorage, told: &Told) {
    let began = Instant::now();
    loop {
        let revision = storage_core::put(store, KEY, "heard".into()).unwrap();
        thread::sleep(Duration::from_millis(20));
        if told.0.lock().unwrap().contains(&revision) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no notice arrived");
    }
}

fn watch(options: &RedisOptions) -> (RedisStorage, Arc<Told>) {
    let (store, told) = (RedisStorage::open(options).unwrap(), Arc::new(Told::default()));
    store.shared().unwrap().watch(Arc::clone(&told) as Arc<dyn Watcher>);
    (store, told)
}

#[test]
fn a_store_outlives_restarts_of_its_server() {
    if is_skipped() {
        return;
    }
    let mut server = Redis::start().unwrap();
    let options = single(server.address());
    let store = RedisStorage::open(&options).unwrap();
    let (_other, told) = watch(&options);
    store.set(KEY, "1".into()).unwrap();
    let before = revision(&store, KEY);
    is_heard(&store, &told);
    store.set(KEY, "2".into()).unwrap();
    server.kill().unwrap();
    let error = store.set(KEY, "3".into()).unwrap_err().to_string();
    assert!(error.contains("cannot connect to Redis"), "{error}");
    assert!(!error.contains("may or may not"), "{error}");
    server.restart().unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("2".into()));
    // The server has forgotten the script.
    store.set(KEY, "3".into()).unwrap();
    assert!(revision(&store, KEY) > before);
    is_heard(&store, &told);
}

#[test]
fn stores_with_other_prefixes_and_databases_are_apart() {
    if is_skipped() {
        return;
    }
    let server = Redis::start().unwrap();
    let options = single(server.address());
    let stores = [
        options.clone(),
        options.clone().with_prefix("storage-2"),
        options.clone().with_prefix("stor"),
        options.with_database(1),
    ]
    .map(|options| RedisStorage::open(&options).unwrap());
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.get(KEY).unwrap(), None);
        store.set(KEY, number.to_string().as_str().into()).unwrap();
    }
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(store.get(KEY).unwrap(), Some(number.to_string().as_str().into()));
        assert_eq!(store.usage(None).unwrap().keys, 1);
    }
}

#[test]
fn a_store_is_used_over_tls_by_a_user_of_its_own() {
    if is_skipped() {
        return;
    }
    let rules = "~?:{storage:* resetchannels &e:* +@all -@dangerous +info +role +scan";
    let server = Redis::builder().tls().user("ada", "lace", rules).start().unwrap();
    let options = single(server.address())
        .with_user("ada")
        .with_password("lace")
        .with_tls(TlsMode::VerifyFull)
        .with_root_certificates(server.certificate());
    let store = RedisStorage::open(&options).unwrap();
    store.set(KEY, "x".repeat(100_000).as_str().into()).unwrap();
    assert_eq!(store.get(KEY).unwrap(), Some("x".repeat(100_000).as_str().into()));
    assert_eq!(store.list_keys(None).unwrap(), [KEY]);
}

#[test]
fn a_store_behind_sentinels_follows_a_failover() {
    if is_skipped() {
        return;
    }
    let mut group = RedisSentinel::start().unwrap();
    let sentinels = group.sentinels().iter().map(address).collect();
    let url = group.url();
    let (_, master) = url.split('?').next().unwrap().rsplit_once('/').unwrap();
    let deployment = SentinelDeployment::new(sentinels, master);
    let options = RedisOptions::new(Deployment::Sentinel(deployment));
    let options = options.with_wait(1).with_wait_timeout(Duration::from_secs(30));
    let store = RedisStorage::open(&options).unwrap();
    let (_other, told) = watch(&options);
    is_heard(&store, &told);
    store.set(KEY, "1".into()).unwrap();
    let before = revision(&store, KEY);
    // The former primary stays, as a replica.
    group.fail_over().unwrap();
    group.wait_until_healthy().unwrap();
    store.set(KEY, "2".into()).unwrap();
    assert!(revision(&store, KEY) > before);
    is_heard(&store, &told);
    store.set(KEY, "3".into()).unwrap();
    let primary = group.master().unwrap();
    group.server_mut(primary).unwrap().kill().unwrap();
    // Waits for the failover. A replica had confirmed the write.
    assert_eq!(store.get(KEY).unwrap(), Some("3".into()));
    let store = RedisStorage::open(&options.with_wait(0)).unwrap();
    store.set(KEY, "4".into()).unwrap();
    is_heard(&store, &told);
    assert_eq!(store.get(KEY).unwrap(), Some("heard".into()));
}

#[test]
fn a_store_on_a_cluster_follows_failovers_and_moving_slots() {
    if is_skipped() {
        return;
    }
    let mut cluster = RedisCluster::start().unwrap();
    let seeds = cluster.nodes().iter().map(address).collect();
    let options = RedisOptions::new(Deployment::Cluster(seeds));
    let options = options.with_wait(1).with_wait_timeout(Duration::from_secs(30));
    let store = RedisStorage::open(&options).unwrap();
    let (_other, told) = watch(&options);
    is_heard(&store, &told);
    let keys: Vec<String> = (0..60).map(|n| format!("app/notes/{n}/a")).collect();
    for key in &keys {
        store.set(key, key.as_str().into()).unwrap();
    }
    let is_whole = |store: &RedisStorage| {
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values = store.get_many(&names).unwrap();
        values.iter().zip(&keys).all(|(value, key)| *value == Some(key.as_str().into()))
    };
    assert!(is_whole(&store));
    // One component's slot moves while it is written to.
    let slot = cluster.slot("{storage:25}").unwrap();
    let from = cluster.owner(slot).unwrap();
    let masters = (0..16384).step_by(500).map(|slot| cluster.owner(slot).unwrap());
    let to = masters.into_iter().find(|node| *node != from).unwrap();
    let before = storage_core::put(&store, KEY, "1".into()).unwrap();
    thread::scope(|scope| {
        let moved = scope.spawn(|| cluster.move_slots(slot..=slot, to).unwrap());
        let mut last = before;
        while !moved.is_finished() {
            let revision = storage_core::put(&store, KEY, "2".into()).unwrap();
            assert!(revision > last);
            last = revision;
        }
    });
    assert_eq!(cluster.owner(slot).unwrap(), to);
    is_heard(&store, &told);
    // A master fails.
    cluster.wait_until_healthy().unwrap();
    cluster.node_mut(to).unwrap().kill().unwrap();
    assert!(is_whole(&store));
    let store = RedisStorage::open(&options.with_wait(0)).unwrap();
    for key in &keys {
        storage_core::put(&store, key, key.as_str().into()).unwrap();
    }
    assert!(is_whole(&store));
    is_heard(&store, &told);
}
