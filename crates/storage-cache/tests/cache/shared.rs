//! One cache for many components: coherent for each, and isolated from each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rstest::rstest;
use storage_cache::{CacheConfig, CacheStats, CachedStorage, SharedCache};
use storage_core::conformance::{
    BlockingStorage, CountingStorage, Feature, Implementation, Method, Moment, ReferenceStorage,
    run,
};
use storage_core::{
    Commit, ComponentId, ComponentStorage, MAX_KEY_BYTES, NamespacedStorage, forward_storage,
};

use crate::support::{assert_holds, bytes, start};

type Backend = Arc<BlockingStorage<CountingStorage<ReferenceStorage>>>;
type View = NamespacedStorage<CachedStorage<Backend>>;

fn id(name: impl std::fmt::Display) -> ComponentId {
    format!("app/shared/{name}").parse().unwrap()
}

fn shared(config: CacheConfig) -> SharedCache<Backend> {
    let counting = CountingStorage::new(ReferenceStorage::new());
    SharedCache::new(Arc::new(BlockingStorage::new(counting)), config)
}

fn roomy() -> SharedCache<Backend> {
    shared(CacheConfig { max_entries: 16_000, ttl: None, max_size_bytes: 32 << 20 })
}

fn stats(view: &View) -> CacheStats {
    view.inner().stats()
}

/// Two views of one component, used alternately.
struct Alternating([Box<dyn ComponentStorage>; 2], AtomicUsize);

impl Alternating {
    fn next(&self) -> &dyn ComponentStorage {
        &*self.0[self.1.fetch_add(1, Ordering::Relaxed) % 2]
    }
}

impl ComponentStorage for Alternating {
    forward_storage!(self => *self.next());
}

#[rstest]
#[case::roomy(CacheConfig::default())]
// Evicts and refuses most of the time.
#[case::tiny(CacheConfig { max_entries: 48, ttl: None, max_size_bytes: 48 << 10 })]
#[case::off(CacheConfig { max_entries: 0, ttl: None, max_size_bytes: 0 })]
fn two_views_of_a_component_pass_the_suite(#[case] config: CacheConfig) {
    let reference = Implementation::store("reference", ReferenceStorage::new);
    let component = reference.wrapped("shared cache", move |storage| {
        let shared = SharedCache::new(Arc::<dyn ComponentStorage>::from(storage), config.clone());
        let view = || -> Box<dyn ComponentStorage> { Box::new(shared.component(id("suite"))) };
        Alternating([view(), view()], AtomicUsize::new(0))
    });
    let report = run(&component.without(Feature::Components).with_max_key_bytes(MAX_KEY_BYTES));
    assert!(report.passed.len() > 20, "{:?}", report.passed);
}

#[test]
fn views_of_one_component_share_entries_and_components_do_not() {
    let shared = roomy();
    let [one, again, other] = ["a", "a", "b"].map(|name| shared.component(id(name)));
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

/// Many components share each segment, so their entries evict each other.
#[test]
fn components_in_one_segment_read_their_own_values() {
    let shared = shared(CacheConfig { max_entries: 640, ttl: None, max_size_bytes: 640 << 10 });
    let views: Vec<View> = (0..100).map(|n| shared.component(id(n))).collect();
    for round in 0..3 {
        let each = || (0..20).flat_map(|key| views.iter().enumerate().map(move |v| (key, v)));
        let value = |number: usize, key: i32| format!("{number}-{key}-{round}");
        for (key, (number, view)) in each() {
            view.set(&key.to_string(), (*value(number, key)).into()).unwrap();
        }
        for (key, (number, view)) in each() {
            assert_eq!(view.get(&key.to_string()), Ok(Some((*value(number, key)).into())));
        }
    }
    let all = shared.stats();
    assert!(all.entries <= 640 && all.bytes <= 640 << 10, "{all:?}");
    assert!(all.entries > 320 && all.evictions > 1_000, "{all:?}");
    assert_eq!(views.iter().map(stats).sum::<CacheStats>(), all);
}

#[rstest]
#[case::many_small(4_000, 10)]
#[case::large(200, 200 << 10)]
fn a_component_fills_an_eighth_and_evicts_few_others(#[case] keys: usize, #[case] len: usize) {
    const OTHERS: usize = 60;
    let shared = roomy();
    let others: Vec<View> = (0..OTHERS).map(|n| shared.component(id(n))).collect();
    for (view, key) in others.iter().flat_map(|view| (0..20).map(move |key| (view, key))) {
        view.set(&key.to_string(), bytes(100)).unwrap();
    }
    let hungry = shared.component(id("hungry"));
    for key in (0..3).flat_map(|_| 0..keys) {
        hungry.set(&key.to_string(), bytes(len)).unwrap();
        hungry.get(&key.to_string()).unwrap();
    }
    let held = stats(&hungry);
    let config = shared.config();
    assert!(held.entries <= config.max_entries as u64 / 8, "{held:?}");
    assert!(held.bytes <= config.max_size_bytes as u64 / 8, "{held:?}");
    assert!(held.evictions > 0 || held.refusals > 0, "{held:?}");
    // Three in four share no segment with it.
    let whole = others.iter().filter(|view| stats(view).entries == 20).count();
    assert!(whole >= OTHERS / 3, "{whole} of {OTHERS} kept everything");
}

#[test]
fn entries_and_statistics_outlive_the_handles_of_a_component() {
    let shared = roomy();
    let view = shared.component(id("a"));
    view.set("key", "1".into()).unwrap();
    view.get("key").unwrap();
    drop(view);
    let view = shared.component(id("a"));
    assert_eq!(view.get("key"), Ok(Some("1".into())));
    assert_eq!(shared.inner().inner().calls(Method::Get), 0);
    assert_eq!(stats(&view).hits, 2);
    // Without entries its statistics remain in those of the cache only.
    view.inner().clear();
    drop(view);
    let all = shared.stats();
    assert_eq!((all.hits, all.entries, all.bytes), (2, 0, 0));
}

#[test]
fn clear_removes_the_entries_of_one_component() {
    let shared = roomy();
    // Enough that some share both segments with the first.
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

#[test]
fn a_read_through_one_view_does_not_outlive_a_clear_through_another() {
    let shared = roomy();
    let [one, other] = [(); 2].map(|()| shared.component(id("a")));
    let held = shared.inner().hold(&[Method::Get], Moment::After);
    let read = start(move || one.get("key"));
    held.wait_for(1);
    shared.inner().inner().inner().set("app/shared/a/key", "around".into()).unwrap();
    other.inner().clear();
    held.release();
    read.finish().unwrap();
    assert_holds(&other, "key", Some("around"));
}

#[test]
fn misses_of_several_views_read_once() {
    let shared = roomy();
    let held = shared.inner().hold(&[Method::Get], Moment::Before);
    let read = |_| {
        let view = shared.component(id("a"));
        start(move || view.get("key"))
    };
    let reads: Vec<_> = (0..4).map(read).collect();
    held.wait_for(1);
    held.release();
    for read in reads {
        assert_eq!(read.finish(), Ok(None));
    }
    assert_eq!(shared.inner().inner().calls(Method::Get), 1);
}

#[test]
fn components_do_not_wait_for_each_others_writes() {
    let shared = roomy();
    let [slow, quick] = ["slow", "quick"].map(|name| shared.component(id(name)));
    let held = shared.inner().hold(&[Method::Set], Moment::Before);
    let write = start(move || slow.set("key", "1".into()));
    held.wait_for(1);
    // Commits, which are not held.
    let commit = move |n: i32| quick.commit(Commit::new().set(n.to_string(), "1".into()));
    start(move || (0..1_000).try_for_each(|n| commit(n).map(drop))).finish().unwrap();
    held.release();
    write.finish().unwrap();
}

/// Writes of the other component would not invalidate such entries.
#[test]
fn keys_of_other_components_are_not_cached() {
    let shared = roomy();
    let [a, b] = ["a", "b"].map(|name| shared.component(id(name)));
    let through_a = a.inner();
    for value in ["1", "2", "3"] {
        b.set("key", value.into()).unwrap();
        assert_holds(through_a, "app/shared/b/key", Some(value));
        assert_eq!(stats(&a).entries, 0);
    }
    through_a.set("app/shared/b/other", "4".into()).unwrap();
    let commit = Commit::new().set("app/shared/b/third", "5".into());
    through_a.commit(commit.set("app/shared/a/own", "6".into())).unwrap();
    assert_eq!(stats(&a).entries, 1);
    assert_holds(&b, "other", Some("4"));
    assert_holds(&b, "third", Some("5"));
    assert_holds(&a, "own", Some("6"));
}

/// The private cache is made for the component of the first key.
#[test]
fn components_over_one_private_cache_read_their_own_values() {
    let cached = CachedStorage::new(ReferenceStorage::new(), CacheConfig::default());
    let components = ["a", "b"].map(|name| NamespacedStorage::new(id(name), &cached));
    let each = || components.iter().zip(["1", "2"]);
    each().for_each(|(component, value)| component.set("key", value.into()).unwrap());
    for (component, value) in each().chain(each()) {
        assert_eq!(component.get("key"), Ok(Some(value.into())));
        assert_eq!(component.try_get("", "key"), Some(Some(value.into())));
    }
    assert_eq!((cached.stats().hits, cached.stats().misses), (8, 0));
}
