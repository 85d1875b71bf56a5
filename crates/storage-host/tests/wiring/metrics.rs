//! What a host counts.

#[cfg(feature = "async")]
use std::collections::BTreeSet;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use storage_core::conformance::ReferenceStorage;
use storage_host::{
    Access, Budget, CacheConfig, Commit, ComponentId, ComponentMetrics, ComponentSettings,
    ComponentStorage, Grant, Limits, Metrics, Mode, Operation, Outcome, PageRequest, RateLimit,
    StorageHost, StoreUrl,
};

fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

fn host() -> StorageHost {
    StorageHost::new(Arc::new(ReferenceStorage::new()))
}

fn calls(metrics: &Metrics, operation: Operation, outcome: Outcome) -> u64 {
    let one = metrics.operations.iter().find(|one| one.operation == operation).unwrap();
    one.calls(outcome)
}

fn of<'a>(metrics: &'a Metrics, component: &str) -> &'a ComponentMetrics {
    let found = metrics.components.iter().find(|one| one.component == Some(id(component)));
    found.unwrap_or_else(|| panic!("{component} has no numbers"))
}

#[test]
fn each_call_is_counted_once_by_operation_and_outcome() {
    let mut limits = Limits::default();
    limits.value_bytes = 10;
    let settings = ComponentSettings {
        quota: Some(Budget { max_bytes: 30, max_keys: 100 }),
        limits,
        ..ComponentSettings::default()
    };
    let store = Arc::new(ReferenceStorage::new());
    let host = StorageHost::builder(store).component(id("a/b/1"), settings).build();
    let chain = host.component(&id("a/b/1"));
    chain.set("one", "12345".into()).unwrap(); // 8 bytes
    chain.set("two", "1234567890".into()).unwrap(); // 13 bytes
    chain.set("big", "12345678901".into()).unwrap_err();
    chain.set("three", "1234567890".into()).unwrap_err();
    chain.set("\n", "".into()).unwrap_err();
    chain.get("one").unwrap();
    chain.get("one").unwrap();
    chain.get("none").unwrap();
    chain.get("none").unwrap();
    assert!(chain.exists("one").unwrap() && !chain.exists("nothing").unwrap());
    chain.try_get("", "one").unwrap();
    assert_eq!(chain.try_get("", "unknown"), None);
    chain.get_many(&["one", "two", "none"]).unwrap();
    chain.get_versioned("one").unwrap();
    chain.list_keys(None).unwrap();
    chain.list_page(PageRequest::new(1)).unwrap();
    chain.usage(None).unwrap();
    chain.delete("two").unwrap();
    chain.commit(Commit::new().require_absent("one").delete("x")).unwrap_err();
    // Not calls of the component.
    host.usage(&id("a/b/1")).unwrap();
    chain.for_operator().get("one").unwrap();
    chain.for_operator().set("one", "12345".into()).unwrap();
    let metrics = host.metrics();
    let found: BTreeMap<_, _> = metrics
        .operations
        .iter()
        .flat_map(|one| {
            one.outcomes.iter().filter(|(_, calls)| *calls > 0).map(|(outcome, calls)| {
                (format!("{} {}", one.operation.as_str(), outcome.as_str()), *calls)
            })
        })
        .collect();
    let expected = [
        ("commit conflict", 1),
        ("delete ok", 1),
        ("exists not_found", 1),
        ("exists ok", 1),
        ("get not_found", 2),
        ("get ok", 3),
        ("get_many ok", 1),
        ("get_versioned ok", 1),
        ("list_keys ok", 1),
        ("list_page ok", 1),
        ("set invalid", 1),
        ("set limit", 1),
        ("set ok", 2),
        ("set quota", 1),
        ("usage ok", 1),
    ];
    assert_eq!(found, expected.map(|(name, calls)| (name.to_owned(), calls)).into());
    let own = of(&metrics, "a/b/1");
    assert_eq!(own.operations, expected.iter().map(|(_, calls)| calls).sum::<u64>());
    assert_eq!((own.over_limit, own.over_quota, own.over_rate, own.errors), (1, 1, 0, 0));
    assert_eq!(own.refused(), 2);
    // Keys and values; keys of deletes.
    assert_eq!((own.written_bytes, metrics.written_bytes), (24, 24));
    // Three times `one`, once more with its revision, 15 at once, and keys: 6 and 3.
    assert_eq!((own.read_bytes, metrics.read_bytes), (15 + 5 + 15 + 9, 44));
    let timed: u64 = metrics.operations.iter().map(|one| one.latency.count()).sum();
    let from_memory: u64 = metrics.operations.iter().map(|one| one.from_memory).sum();
    assert_eq!(timed + from_memory, own.operations);
    assert_eq!(own.latency.count(), timed);
    assert_eq!(own.memory_hits, from_memory);
    assert!(own.memory_hits > 0 && own.latency.quantile(0.99).is_some());
    assert_eq!((metrics.components_in_use, metrics.other.operations), (1, 0));
    assert_eq!(metrics.cache, host.total_cache_stats());
}

/// Each of them counts for 64.
#[test]
fn one_of_64_calls_to_a_store_in_memory_is_timed() {
    let url: StoreUrl = "memory:".parse().unwrap();
    let host = StorageHost::new(url.open(Mode::ReadWrite).unwrap());
    let chain = host.component(&id("a/b/1"));
    for n in 0..130 {
        // A refused call counts too.
        let key = if n % 2 == 0 { "key" } else { "" };
        assert_eq!(chain.set(key, "value".into()).is_ok(), n % 2 == 0);
    }
    let metrics = host.metrics();
    assert_eq!(calls(&metrics, Operation::Set, Outcome::Ok), 65);
    assert_eq!(calls(&metrics, Operation::Set, Outcome::Invalid), 65);
    let sets = metrics.operations.iter().find(|one| one.operation == Operation::Set).unwrap();
    assert_eq!((sets.latency.count(), of(&metrics, "a/b/1").latency.count()), (128, 128));
}

#[test]
fn a_refusal_by_rate_and_a_call_through_a_grant_are_the_callers() {
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .component(
            id("a/caller/1"),
            ComponentSettings {
                rate: RateLimit::new(Some(1), None, Duration::from_secs(3)).unwrap(),
                ..ComponentSettings::default()
            },
        )
        .clock(storage_host::ManualClock::new().clock())
        .build();
    let (caller, owner) = (id("a/caller/1"), id("a/owner/1"));
    let grant = Grant { owner: owner.clone(), prefix: "x".into(), access: Access::ReadWrite };
    host.grant(&caller, grant);
    let granted = host.granted(&caller, &owner).unwrap();
    granted.set("x", "1".into()).unwrap();
    granted.set("y", "1".into()).unwrap_err();
    granted.list_keys(None).unwrap();
    granted.get("x").unwrap_err();
    assert_eq!(granted.try_get("", "x"), None);
    let metrics = host.metrics();
    assert_eq!(calls(&metrics, Operation::Set, Outcome::Ok), 1);
    assert_eq!(calls(&metrics, Operation::Set, Outcome::Denied), 1);
    assert_eq!(calls(&metrics, Operation::Get, Outcome::Rate), 1);
    assert_eq!(calls(&metrics, Operation::ListKeys, Outcome::Ok), 1);
    assert_eq!(metrics.components.len(), 1);
    let own = of(&metrics, "a/caller/1");
    assert_eq!((own.operations, own.over_rate), (4, 1));
}

#[test]
fn counts_are_exact_when_many_threads_call() {
    const THREADS: usize = 24; // more than have counters of their own
    const CALLS: u64 = 500;
    let host = host();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let host = &host;
            scope.spawn(move || {
                let mine = host.component(&id(&format!("a/b/{}", thread % 3)));
                for n in 0..CALLS {
                    mine.set("key", "value".into()).unwrap();
                    mine.get("key").unwrap();
                    if n % 10 == 0 {
                        host.metrics();
                    }
                }
            });
        }
    });
    let total = THREADS as u64 * CALLS;
    let metrics = host.metrics();
    assert_eq!(calls(&metrics, Operation::Set, Outcome::Ok), total);
    assert_eq!(calls(&metrics, Operation::Get, Outcome::Ok), total);
    assert_eq!((metrics.read_bytes, metrics.written_bytes), (5 * total, 8 * total));
    for component in 0..3 {
        let own = of(&metrics, &format!("a/b/{component}"));
        assert_eq!(own.operations, 2 * total / 3);
        assert_eq!(own.read_bytes, 5 * total / 3);
        assert_eq!(own.latency.count() + own.memory_hits, own.operations);
    }
    // Of the reads from memory, some were timed.
    assert!(metrics.memory_latency.count() <= total / 1_024);
}

/// The value of each series.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    let found: Vec<_> = lines.map(parse).collect();
    let count = found.len();
    assert!(found.iter().all(|(name, _)| !name.contains("{}")), "{text}");
    let series: BTreeMap<_, _> = found.into_iter().collect();
    assert_eq!(series.len(), count, "a series occurs twice");
    series
}

#[test]
fn the_number_of_series_is_bounded_and_no_call_is_lost() {
    const COMPONENTS: u64 = 100_000;
    let host = StorageHost::builder(Arc::new(ReferenceStorage::new()))
        .cache(CacheConfig::off())
        .metrics_components(10)
        .build();
    let mut in_use = Vec::new();
    for n in 0..COMPONENTS {
        let chain = host.component(&ComponentId::new("a", "b", &n.to_string()).unwrap());
        chain.get("key").unwrap();
        // Some stay in use, most do not.
        if n % 100 == 0 {
            in_use.push(chain);
        }
        if n % 20_000 == 0 {
            host.metrics();
        }
    }
    for _ in 0..5 {
        in_use[7].get("key").unwrap();
    }
    let metrics = host.metrics();
    assert_eq!(metrics.components.len(), 10);
    assert_eq!(metrics.components_in_use, in_use.len() as u64);
    assert_eq!(calls(&metrics, Operation::Get, Outcome::NotFound), COMPONENTS + 5);
    let all = metrics.components.iter().chain([&metrics.other]);
    // One component lost its place to the busiest.
    assert_eq!(all.map(|one| one.operations).sum::<u64>(), COMPONENTS + 4);
    assert_eq!(of(&metrics, "a/b/700").operations, 5, "the busiest has numbers of its own");
    let series = series(&metrics.to_prometheus());
    assert!(series.len() < 300, "{} series", series.len());
    let named = series.keys().filter(|name| name.starts_with("storage_component_operations"));
    assert_eq!(named.count(), 11);
}

#[test]
fn counters_never_go_back_while_components_come_and_go() {
    let host =
        StorageHost::builder(Arc::new(ReferenceStorage::new())).metrics_components(3).build();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3_u64 {
            let (host, ended) = (&host, &ended);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                while !ended.load(Ordering::Relaxed) {
                    // Each chain ends with the loop.
                    let component = random.u32(0..8);
                    let chain = host.component(&id(&format!("a/b/{component}")));
                    let most = 1 << random.u32(0..8);
                    for _ in 0..random.u32(0..most) {
                        chain.set("key", "value".into()).unwrap();
                        chain.get("key").unwrap();
                    }
                }
            });
        }
        let mut seen: HashMap<String, f64> = HashMap::new();
        for _ in 0..300 {
            for (name, value) in series(&host.metrics().to_prometheus()) {
                let is_counter = ["_total", "_count", "_sum", "_bucket"]
                    .iter()
                    .any(|end| name.split('{').next().unwrap().ends_with(end));
                if is_counter {
                    let before = seen.insert(name.clone(), value).unwrap_or(0.0);
                    assert!(value >= before, "{name} went from {before} to {value}");
                }
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    let metrics = host.metrics();
    let sets = calls(&metrics, Operation::Set, Outcome::Ok);
    assert_eq!(calls(&metrics, Operation::Get, Outcome::Ok), sets);
    assert_eq!(metrics.cache.hits + metrics.cache.misses, sets);
}

#[test]
fn a_component_that_comes_back_continues_its_numbers() {
    let host = host();
    for round in 1..=3 {
        let chain = host.component(&id("a/b/1"));
        chain.set("key", "value".into()).unwrap();
        drop(chain);
        let metrics = host.metrics();
        assert_eq!(of(&metrics, "a/b/1").operations, round);
        assert_eq!(metrics.components_in_use, 0);
    }
}

/// A host with something in each of its numbers.
#[cfg(feature = "async")]
fn busy_host() -> StorageHost {
    let store = storage_core::conformance::SharedReference::new();
    let host = StorageHost::builder(Arc::new(store.connect())).build();
    let chain = host.component(&id("a/b/1"));
    chain.set("key", "value".into()).unwrap();
    chain.get("key").unwrap();
    chain.get_many(&["key"]).unwrap();
    host.poll_changes().unwrap();
    host
}

/// The names of the metrics in an expression of Prometheus.
#[cfg(feature = "async")]
fn names_in(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !is_part(c));
    let is_name = |word: &&str| word.starts_with("storage_") || word.starts_with("db_client_");
    words.filter(is_name).map(str::to_owned).collect()
}

#[cfg(feature = "async")]
#[test]
fn the_dashboard_and_the_documentation_name_the_metrics_that_are_served() {
    let served: BTreeSet<String> = series(&busy_host().metrics().to_prometheus())
        .into_keys()
        .map(|name| name.split('{').next().unwrap().to_owned())
        .collect();
    let dashboard = include_str!("../../../../docs/metrics-dashboard.json");
    let expressions = dashboard.lines().filter_map(|line| line.trim().strip_prefix("\"expr\": "));
    let used: BTreeSet<String> = expressions.flat_map(names_in).collect();
    assert!(used.len() > 10, "{used:?}");
    let missing: Vec<_> = used.difference(&served).collect();
    assert!(missing.is_empty(), "the dashboard uses {missing:?}, which are not served");

    let table = include_str!("../../../../docs/metrics.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> =
        rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect();
    // A histogram is one row.
    let family = |name: &String| {
        let name = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| name.strip_suffix(end))
            .unwrap_or(name);
        name.to_owned()
    };
    assert_eq!(documented, served.iter().map(family).collect());
}

#[test]
fn nothing_of_the_data_is_in_the_metrics() {
    let host = host();
    let chain = host.component(&id("a/b/1"));
    chain.set("sEcReT-key", "sEcReT-value".into()).unwrap();
    chain.get("sEcReT-key").unwrap();
    chain.set("sEcReT\n", "".into()).unwrap_err();
    chain.commit(Commit::new().require_absent("sEcReT-key")).unwrap_err();
    let metrics = host.metrics();
    let text = format!("{}\n{metrics:?}", metrics.to_prometheus());
    assert!(!text.contains("sEcReT"), "{text}");
    assert!(text.contains("a/b/1"));
}
