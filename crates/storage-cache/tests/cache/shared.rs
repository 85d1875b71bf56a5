//! One budget for many components: coherent in each, and no component's to fill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use storage_cache::{CacheConfig, CacheStats, CachedStorage, ManualClock, SharedCache};
use storage_core::conformance::{
    CountingStorage, Feature, Implementation, Method, Moment, ReferenceStorage, SlowStorage, run,
};
use storage_core::{
    Commit, ComponentId, ComponentStorage, MAX_KEY_BYTES, NamespacedStorage, forward_storage,
};

use crate::support::{TTL, assert_holds, bytes, start};

type Backend = Arc<SlowStorage<CountingStorage<ReferenceStorage>>>;
type View = NamespacedStorage<CachedStorage<Backend>>;

/// A component can fill two of so many parts.
const PARTS: u64 = 16;

fn id(name: impl std::fmt::Display) -> ComponentId {
    format!("app/shared/{name}").parse().unwrap()
}

fn shared(config: CacheConfig) -> SharedCache<Backend> {
    let counting = CountingStorage::new(ReferenceStorage::new());
    SharedCache::new(Arc::new(SlowStorage::new(counting)), config)
}

fn roomy() -> SharedCache<Backend> {
    shared(CacheConfig { max_entries: 16_000, ttl: None, max_size_bytes: 32 << 20 })
}

fn stats(view: &View) -> CacheStats {
    view.inner().stats()
}

/// Two views of one component, used in turn.
struct InTurn([Box<dyn ComponentStorage>; 2], AtomicUsize);

impl InTurn {
    fn next(&self) -> &dyn ComponentStorage {
        &*self.0[self.1.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for InTurn {
    forward_storage!(self => *self.next());
}

#[rstest]
#[case::as_it_comes(CacheConfig::default())]
// Evicts and refuses most of the time.
#[case::hardly(CacheConfig { max_entries: 48, ttl: None, max_size_bytes: 48 << 10 })]
#[case::not_at_all(CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 })]
fn a_view_keeps_the_contract_and_two_in_turn_too(#[case] config: CacheConfig) {
    for views in [1, 2] {
        let config = config.clone();
        let reference = Implementation::store("reference", ReferenceStorage::new);
        let component = reference.wrapped("shared cache", move |storage| {
            let storage: Arc<dyn ComponentStorage> = Arc::from(storage);
            let shared = SharedCache::new(storage, config.clone());
            let view = || -> Box<dyn ComponentStorage> { Box::new(shared.component(id("suite"))) };
            match views {
                1 => view(),
                _ => Box::new(InTurn([view(), view()], AtomicUsize::new(0))),
            }
        });
        let report = run(&component.without(Feature::Components).with_longest_key(MAX_KEY_BYTES));
        assert!(report.passed.len() > 20, "{:?}", report.passed);
    }
}

#[test]
fn views_of_a_component_share_what_it_keeps_and_components_do_not() {
    let shared = roomy();
    let (one, again, other) =
        (shared.component(id("a")), shared.component(id("a")), shared.component(id("b")));
    one.set("key", "1".into()).unwrap();
    assert_eq!(again.try_get("", "key"), Some(Some("1".into())));
    assert_eq!(other.try_get("", "key"), None);
    again.set("key", "2".into()).unwrap();
    assert_holds(&one, "key", Some("2"));
    one.commit(Commit::new().delete("key")).unwrap();
    assert_holds(&again, "key", None);
    assert_holds(&other, "key", None);
    assert_eq!(stats(&one), stats(&again));
}

/// Segments are shared, so that an entry of one may push out another's. It must
/// never answer for it.
#[test]
fn a_few_segments_for_many_components_mix_nothing_up() {
    let shared = shared(CacheConfig { max_entries: 640, ttl: None, max_size_bytes: 640 << 10 });
    let views: Vec<View> = (0..100).map(|n| shared.component(id(n))).collect();
    for round in 0..3 {
        for (number, view) in views.iter().enumerate() {
            for key in 0..20 {
                let value = format!("{number}-{key}-{round}");
                view.set(&key.to_string(), value.as_str().into()).unwrap();
            }
        }
        for (number, view) in views.iter().enumerate() {
            for key in 0..20 {
                let value = format!("{number}-{key}-{round}");
                assert_eq!(view.get(&key.to_string()), Ok(Some(value.as_str().into())));
            }
        }
    }
    let all = shared.stats();
    assert!(all.entries <= 640 && all.bytes <= 640 << 10, "{all:?}");
    assert!(all.entries > 320 && all.evictions > 1_000, "{all:?}");
    let sum: CacheStats = views.iter().map(stats).sum();
    assert_eq!(sum, all);
}

#[rstest]
#[case::many_small(4_000, 10)]
#[case::large(200, 200 << 10)]
fn a_component_fills_its_part_and_displaces_few(#[case] keys: usize, #[case] len: usize) {
    const OTHERS: usize = 60;
    let shared = roomy();
    let others: Vec<View> = (0..OTHERS).map(|n| shared.component(id(n))).collect();
    for view in &others {
        for key in 0..20 {
            view.set(&key.to_string(), bytes(100)).unwrap();
        }
    }
    let hungry = shared.component(id("hungry"));
    for _ in 0..3 {
        for key in 0..keys {
            hungry.set(&key.to_string(), bytes(len)).unwrap();
            hungry.get(&key.to_string()).unwrap();
        }
    }
    let held = stats(&hungry);
    let config = shared.config();
    let most = (config.max_entries as u64, config.max_size_bytes as u64);
    assert!(held.entries <= 2 * most.0 / PARTS && held.bytes <= 2 * most.1 / PARTS, "{held:?}");
    assert!(held.evictions > 0 || held.refusals > 0, "{held:?}");
    // Three in four share no segment with it.
    let whole = others.iter().filter(|view| stats(view).entries == 20).count();
    assert!(whole >= OTHERS / 3, "{whole} of {OTHERS} kept everything");
}

#[test]
fn a_component_that_comes_back_finds_what_it_left() {
    let shared = roomy();
    let view = shared.component(id("a"));
    view.set("key", "1".into()).unwrap();
    view.get("key").unwrap();
    let before = stats(&view);
    drop(view);
    let view = shared.component(id("a"));
    assert_eq!(view.get("key"), Ok(Some("1".into())));
    assert_eq!(stats(&view).hits, before.hits + 1);
    assert_eq!(shared.inner().inner().calls(Method::Get), 0);
}

#[test]
fn what_was_done_counts_when_the_component_is_gone() {
    let shared = roomy();
    let view = shared.component(id("a"));
    assert_eq!(shared.stats(), CacheStats::default());
    view.get("key").unwrap();
    view.get("key").unwrap();
    // Nothing is left that would keep its numbers.
    view.inner().clear();
    drop(view);
    let all = shared.stats();
    assert_eq!((all.hits, all.misses, all.fills, all.entries, all.bytes), (1, 1, 1, 0, 0));
}

#[test]
fn clearing_one_leaves_the_others() {
    let shared = roomy();
    // So many that some share both segments with it.
    let views: Vec<View> = (0..300).map(|n| shared.component(id(n))).collect();
    for view in &views {
        view.set("key", "1".into()).unwrap();
    }
    views[0].inner().clear();
    assert_eq!(views[0].try_get("", "key"), None);
    assert_eq!((stats(&views[0]).entries, stats(&views[0]).bytes), (0, 0));
    for view in &views[1..] {
        assert_eq!(view.try_get("", "key"), Some(Some("1".into())));
    }
}

/// What is on its way when a component is cleared does not count afterwards.
#[test]
fn a_fill_under_way_does_not_outlive_a_clear_by_another_view() {
    let shared = roomy();
    let (one, other) = (shared.component(id("a")), shared.component(id("a")));
    let held = shared.inner().hold(&[Method::Get], Moment::After);
    let read = start(move || one.get("key"));
    held.wait_for(1);
    shared.inner().inner().inner().set("app/shared/a/key", "around".into()).unwrap();
    other.inner().clear();
    held.release();
    // The read began before.
    let _ = read.finish().unwrap();
    assert_holds(&other, "key", Some("around"));
}

#[test]
fn misses_of_two_views_for_one_key_reach_the_storage_once() {
    let shared = roomy();
    let held = shared.inner().hold(&[Method::Get], Moment::Before);
    let reads: Vec<_> = (0..4)
        .map(|_| {
            let view = shared.component(id("a"));
            start(move || view.get("key"))
        })
        .collect();
    held.wait_for(1);
    held.release();
    for read in reads {
        assert_eq!(read.finish(), Ok(None));
    }
    assert_eq!(shared.inner().inner().calls(Method::Get), 1);
}

/// A component whose writes are slow holds up no other, whatever their keys.
#[test]
fn components_do_not_wait_for_each_others_writes() {
    let shared = roomy();
    let slow = shared.component(id("slow"));
    let held = shared.inner().hold(&[Method::Set], Moment::Before);
    let write = start(move || slow.set("key", "1".into()));
    held.wait_for(1);
    let quick = shared.component(id("quick"));
    let others = start(move || {
        // By another method, which is not held.
        (0..1_000).try_for_each(|n| storage_core::put(&quick, &n.to_string(), "1".into()).map(drop))
    });
    others.finish().unwrap();
    held.release();
    write.finish().unwrap();
}

#[test]
fn time_passes_for_all_of_them() {
    let clock = ManualClock::new();
    let config = CacheConfig { ttl: Some(TTL), ..CacheConfig::default() };
    let shared = SharedCache::with_clock(Arc::new(ReferenceStorage::new()), config, clock.clock());
    let view = shared.component(id("a"));
    view.set("key", "1".into()).unwrap();
    shared.inner().set("app/shared/a/key", "around".into()).unwrap();
    assert_eq!(view.get("key"), Ok(Some("1".into())));
    clock.advance(TTL);
    assert_holds(&view, "key", Some("around"));
}

/// The cache of one component is not asked about another's keys: what it kept of
/// them nobody would correct.
#[test]
fn keys_of_others_pass_by() {
    let shared = roomy();
    let (a, b) = (shared.component(id("a")), shared.component(id("b")));
    let through_a = a.inner();
    for value in ["1", "2", "3"] {
        b.set("key", value.into()).unwrap();
        assert_holds(through_a, "app/shared/b/key", Some(value));
        assert_eq!(stats(&a).entries, 0);
    }
    through_a.set("app/shared/b/other", "4".into()).unwrap();
    let commit =
        Commit::new().set("app/shared/b/third", "5".into()).set("app/shared/a/own", "6".into());
    through_a.commit(commit).unwrap();
    assert_eq!(stats(&a).entries, 1);
    assert_holds(&b, "other", Some("4"));
    assert_holds(&b, "third", Some("5"));
    assert_holds(&a, "own", Some("6"));
}

/// The cache knows whose its first key was, and the others' all the same.
#[test]
fn components_over_one_cache_of_its_own_each_find_their_own() {
    let cached = CachedStorage::new(ReferenceStorage::new(), CacheConfig::default());
    let components = ["a", "b"].map(|name| NamespacedStorage::new(id(name), &cached));
    for (component, value) in components.iter().zip(["1", "2"]) {
        component.set("key", value.into()).unwrap();
    }
    for _ in 0..2 {
        for (component, value) in components.iter().zip(["1", "2"]) {
            assert_eq!(component.get("key"), Ok(Some(value.into())));
            assert_eq!(component.try_get("", "key"), Some(Some(value.into())));
        }
    }
    assert_eq!((cached.stats().hits, cached.stats().misses), (8, 0));
}
