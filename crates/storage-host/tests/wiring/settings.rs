//! Settings that change while a host runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use storage_core::conformance::{BlockingStorage, Method, Moment, ReferenceStorage};
use storage_host::{
    Access, Applied, Budget, CacheConfig, Commit, ComponentConfig, ComponentId, ComponentSettings,
    ComponentStorage, Grant, HostSettings, Limits, RateLimit, StorageError, StorageHost,
};

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn host() -> StorageHost {
    StorageHost::new(Arc::new(ReferenceStorage::new()))
}

fn changed(applied: &Applied) -> Vec<String> {
    applied.changed.iter().map(ToString::to_string).collect()
}

fn needs_restart(applied: &Applied) -> Vec<String> {
    applied.needs_restart.iter().map(ToString::to_string).collect()
}

fn quota(max_bytes: u64) -> Option<Budget> {
    Some(Budget { max_bytes, max_keys: u64::MAX })
}

fn limits(value_bytes: usize) -> Limits {
    let mut limits = Limits::default();
    limits.value_bytes = value_bytes;
    limits
}

fn grant(prefix: &str, access: Access) -> Grant {
    Grant { owner: id("app/owner/1"), prefix: prefix.to_owned(), access }
}

#[test]
fn chains_in_use_and_new_ones_have_the_new_settings() {
    let host = host();
    let used = host.component(&id("app/used/1"));
    used.set("key", "12345".into()).unwrap();
    let mut settings = host.settings();
    assert_eq!(settings, HostSettings::default());
    settings.defaults.quota = quota(10);
    settings.defaults.limits = limits(4);
    let own = ComponentSettings { quota: quota(20), ..ComponentSettings::default() };
    settings.components.insert(id("app/own/1"), own);
    let applied = host.apply(settings.clone());
    assert_eq!(
        changed(&applied),
        [
            "all other components: quota.bytes: none -> 10",
            "all other components: limits.value_bytes: 1048576 -> 4",
            "app/own/1: quota.bytes: none -> 20",
        ]
    );
    assert_eq!(needs_restart(&applied), [""; 0]);
    for chain in [&used, &host.component(&id("app/new/1"))] {
        assert_eq!((chain.quota(), chain.limits()), (quota(10), limits(4)));
        let limit = "bytes of a value";
        let over = StorageError::LimitExceeded { limit, max: 4, actual: 5 };
        assert_eq!(chain.set("key", "12345".into()), Err(over));
        assert!(chain.commit(Commit::new().set("key2", "1234567".into())).is_err());
    }
    assert_eq!(used.set("k", "1234".into()), Err(StorageError::QuotaExceeded));
    // What is above a lower quota stays, and can shrink.
    settings.defaults.quota = quota(2);
    host.apply(settings.clone());
    assert_eq!(used.get("key"), Ok(Some("12345".into())));
    used.set("key", "1".into()).unwrap();
    let own = host.component(&id("app/own/1"));
    assert_eq!((own.quota(), own.limits()), (quota(20), Limits::default()));
    assert_eq!(host.settings(), settings);
    assert_eq!(changed(&host.apply(settings)), [""; 0]);
    // A component without settings of its own any more has the defaults.
    let applied = host.apply(HostSettings::default());
    assert_eq!(
        changed(&applied),
        [
            "all other components: quota.bytes: 2 -> none",
            "all other components: limits.value_bytes: 4 -> 1048576",
            "app/own/1: quota.bytes: 20 -> none",
        ]
    );
    assert_eq!((own.quota(), used.quota()), (None, None));
    assert!(Arc::ptr_eq(&used, &host.component(&id("app/used/1"))), "the same chain");
}

#[test]
fn grants_that_are_gone_are_revoked_for_open_handles() {
    let host = host();
    host.component(&id("app/owner/1")).set("a/1", "1".into()).unwrap();
    host.grant(&id("app/by-hand/1"), grant("a/", Access::Read));
    let mut settings = host.settings();
    assert_eq!(settings.grants[&id("app/by-hand/1")], [grant("a/", Access::Read)]);
    let both = vec![grant("b/", Access::ReadWrite), grant("a/", Access::Read)];
    settings.grants = [(id("app/reader/1"), both)].into();
    let applied = host.apply(settings.clone());
    assert_eq!(
        changed(&applied),
        [
            "app/by-hand/1: grants: read \"a/\" of app/owner/1 -> none for \"a/\" of app/owner/1",
            "app/reader/1: grants: none for \"a/\" of app/owner/1 -> read \"a/\" of app/owner/1",
            "app/reader/1: grants: none for \"b/\" of app/owner/1 -> read-write \"b/\" of \
             app/owner/1",
        ]
    );
    assert!(host.granted(&id("app/by-hand/1"), &id("app/owner/1")).is_none());
    let open = host.granted(&id("app/reader/1"), &id("app/owner/1")).unwrap();
    assert_eq!(open.get("a/1"), Ok(Some("1".into())));
    open.set("b/1", "1".into()).unwrap();

    settings.grants = [(id("app/reader/1"), vec![grant("b/", Access::Read)])].into();
    host.apply(settings.clone());
    assert_eq!(open.get("a/1"), Ok(None));
    assert_eq!(open.get("b/1"), Ok(Some("1".into())));
    assert!(matches!(open.set("b/1", "2".into()), Err(StorageError::AccessDenied(_))));
    assert_eq!(host.grants(&id("app/reader/1")), [grant("b/", Access::Read)]);

    settings.grants.clear();
    host.apply(settings);
    assert!(matches!(open.get("b/1"), Err(StorageError::AccessDenied(_))));
    assert!(host.granted(&id("app/reader/1"), &id("app/owner/1")).is_none());
}

#[test]
fn what_cannot_change_is_listed_and_stays() {
    let host = host();
    let config = |value: &str| ComponentConfig::new([("token", value)]).unwrap();
    let own = ComponentSettings {
        quota: quota(7),
        cache: Some(CacheConfig::off()),
        max_staleness: Some(Duration::from_secs(2)),
        config: config("s3cret"),
        ..ComponentSettings::default()
    };
    let mut settings = host.settings();
    settings.components.insert(id("app/own/1"), own);
    let applied = host.apply(settings.clone());
    assert_eq!(changed(&applied), ["app/own/1: quota.bytes: none -> 7"]);
    let expected = [
        "app/own/1: cache: the host's -> off",
        "app/own/1: cache.max_staleness: the host's -> 2 s",
        "app/own/1: config: 0 entries -> 1 entries",
    ];
    assert_eq!(needs_restart(&applied), expected);
    assert_eq!(host.component(&id("app/own/1")).config().get("token"), None);
    // Until the restart.
    assert_eq!(needs_restart(&host.apply(settings)), expected);
}

#[test]
fn a_commit_in_progress_keeps_its_quota() {
    let backend = Arc::new(BlockingStorage::new(ReferenceStorage::new()));
    let host = StorageHost::builder(backend.clone()).quota(quota(10).unwrap()).build();
    let held = backend.hold(&[Method::Commit], Moment::Before);
    thread::scope(|scope| {
        let chain = host.component(&id("app/used/1"));
        let write = scope.spawn(move || chain.set("key", "1234567".into()));
        held.wait_for(1);
        let mut settings = host.settings();
        settings.defaults.quota = quota(5);
        host.apply(settings);
        held.release();
        write.join().unwrap().unwrap();
    });
    let chain = host.component(&id("app/used/1"));
    assert_eq!(chain.set("k", "".into()), Err(StorageError::QuotaExceeded));
}

/// Each change gives two components the same new number everywhere.
#[test]
fn a_reader_sees_all_of_a_change_or_nothing() {
    let host = host();
    let (one, other) = (id("app/one/1"), id("app/other/1"));
    let settings = |number: usize| {
        let rate = RateLimit::new(Some(1 << 40), None, Duration::from_secs(number as u64));
        let own = ComponentSettings {
            quota: Some(Budget { max_bytes: number as u64, max_keys: number as u64 }),
            limits: {
                let mut limits = limits(number);
                (limits.key_bytes, limits.handles) = (number, number);
                limits
            },
            rate: rate.unwrap(),
            ..ComponentSettings::default()
        };
        let components = [(one.clone(), own.clone()), (other.clone(), own)].into();
        let prefix = number.to_string();
        let grants =
            [(one.clone(), vec![Grant { owner: other.clone(), prefix, access: Access::Read }])];
        HostSettings { components, grants: grants.into(), ..HostSettings::default() }
    };
    host.apply(settings(1));
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for order in [[&one, &other], [&other, &one]] {
            let (host, ended) = (&host, &ended);
            scope.spawn(move || {
                let chains = order.map(|id| host.component(id));
                let mut last = 1;
                while !ended.load(Ordering::Relaxed) {
                    for chain in &chains {
                        let limits = chain.limits();
                        let seen = limits.value_bytes;
                        assert_eq!((limits.key_bytes, limits.handles), (seen, seen));
                        assert!(seen >= last, "{seen} after {last}");
                        let quota = chain.quota().unwrap();
                        assert_eq!(quota.max_bytes, quota.max_keys);
                        assert!(quota.max_bytes >= seen as u64);
                        last = quota.max_bytes as usize;
                    }
                    let all = host.settings();
                    let number = all.components[order[0]].limits.handles;
                    assert_eq!(all.components[order[1]].limits.handles, number);
                    let granted = all.grants.values().next().unwrap();
                    assert_eq!(granted[0].prefix, number.to_string());
                }
            });
        }
        // Two who change settings, each with its own numbers in order.
        let appliers: Vec<_> = (0..2)
            .map(|_| {
                let (host, settings) = (&host, &settings);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let _ordered = ORDER.lock().unwrap();
                        let number = host.settings().components[&id("app/one/1")].limits.handles;
                        assert!(!host.apply(settings(number + 1)).changed.is_empty());
                    }
                })
            })
            .collect();
        appliers.into_iter().for_each(|applier| applier.join().unwrap());
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(host.component(&one).limits().handles, 1_001);
}

static ORDER: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn of_two_changes_at_once_one_wins_as_a_whole() {
    let host = host();
    let settings = |number: u64| {
        let own = ComponentSettings { quota: quota(number), ..ComponentSettings::default() };
        let components = ["app/one/1", "app/two/1"].map(|text| (id(text), own.clone())).into();
        let prefix = number.to_string();
        let grant = grant(&prefix, Access::Read);
        let grants = [(id("app/one/1"), vec![grant])].into();
        HostSettings { components, grants, ..HostSettings::default() }
    };
    for round in 0..200 {
        thread::scope(|scope| {
            for number in [2 * round, 2 * round + 1] {
                let (host, settings) = (&host, &settings);
                scope.spawn(move || host.apply(settings(number)));
            }
        });
        let won = host.settings();
        assert!([settings(2 * round), settings(2 * round + 1)].contains(&won), "{won:?}");
        let chains = ["app/one/1", "app/two/1"].map(|text| host.component(&id(text)).quota());
        assert_eq!(chains[0], chains[1]);
    }
}
