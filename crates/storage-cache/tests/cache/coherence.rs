//! What a cache makes of the changes and revisions that a shared store reports.

use std::sync::Mutex;
use std::time::Duration;

use std::sync::Arc;
use storage_cache::{CacheConfig, CachedStorage, Coherence, ManualClock};
use storage_core::conformance::{CountingStorage, Method, ReferenceStorage};
use storage_core::{
    Change, ComponentStorage, Revision, SharedStore, StorageError, StorageValue, Watcher,
};

const L: Duration = Duration::from_secs(1);
const PREFIX: &str = "a/b/c/";
const KEY: &str = "a/b/c/key";

/// Returns the revision that a test has set.
#[derive(Default)]
struct Revisions(Mutex<Option<Revision>>);

impl SharedStore for Revisions {
    fn watch(&self, _: Arc<dyn Watcher>) {}

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        Ok(vec![*self.0.lock().unwrap(); prefixes.len()])
    }
}

struct Setup {
    clock: ManualClock,
    coherence: Coherence,
    cached: CachedStorage<CountingStorage<ReferenceStorage>>,
    revisions: Revisions,
}

impl Setup {
    /// The key has the value `old` in the store and in the cache.
    fn new() -> Self {
        let clock = ManualClock::new();
        let coherence = Coherence::new(clock.clock());
        let storage = CountingStorage::new(ReferenceStorage::new());
        storage.set(KEY, "old".into()).unwrap();
        let config = CacheConfig { ttl: None, ..CacheConfig::default() };
        let cached = CachedStorage::coherent(storage, config, PREFIX, L, &coherence);
        let setup = Self { clock, coherence, cached, revisions: Revisions::default() };
        setup.cached.get(KEY).unwrap();
        setup.poll(1);
        setup.cached.get(KEY).unwrap();
        assert!(setup.is_cached());
        setup
    }

    fn poll(&self, revision: u64) {
        *self.revisions.0.lock().unwrap() = Some(Revision::new(revision));
        self.coherence.poll(&self.revisions).unwrap();
    }

    fn is_cached(&self) -> bool {
        self.cached.try_get("", KEY).is_some()
    }

    /// Reports a change of another host.
    fn changed(&self, previous: u64, revision: u64, keys: Option<&[&str]>) {
        self.coherence.changed(&Change {
            prefix: PREFIX.to_owned(),
            previous: Some(Revision::new(previous)),
            revision: Revision::new(revision),
            keys: keys.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect()),
            is_own: false,
        });
    }
}

#[test]
fn a_change_without_keys_drops_the_component() {
    let setup = Setup::new();
    setup.changed(1, 2, None);
    assert!(!setup.is_cached());
    assert_eq!(setup.cached.stats().drops, 1);
    setup.cached.get(KEY).unwrap();
    setup.poll(2);
    assert!(setup.is_cached(), "it was part of the chain");
}

#[test]
fn changes_of_other_components_have_no_effect() {
    let setup = Setup::new();
    let change = Change {
        prefix: "a/b/cc/".to_owned(),
        previous: None,
        revision: Revision::new(5),
        keys: None,
        is_own: false,
    };
    setup.coherence.changed(&change);
    assert!(setup.is_cached());
}

/// After a failover to a server that lacks the last commits.
#[test]
fn a_store_that_went_back_in_time_is_read_again() {
    let setup = Setup::new();
    setup.changed(1, 7, Some(&["a/b/c/other"]));
    setup.poll(7);
    assert!(setup.is_cached());
    setup.poll(3);
    assert!(!setup.is_cached());
    setup.cached.get(KEY).unwrap();
    setup.poll(3);
    assert!(setup.is_cached());
    assert_eq!(setup.cached.stats().drops, 1);
}

#[test]
fn too_many_changes_without_their_predecessor_are_a_gap() {
    let setup = Setup::new();
    // The change from 1 to 2 is missing.
    (2..1_000).for_each(|n| setup.changed(n, n + 1, Some(&["a/b/c/other"])));
    setup.changed(1, 2, Some(&["a/b/c/other"]));
    setup.poll(1_000);
    assert!(setup.is_cached());
    setup.poll(1_000);
    assert!(!setup.is_cached());
}

#[test]
fn a_wrong_number_of_revisions_is_an_error() {
    struct Wrong;
    impl SharedStore for Wrong {
        fn watch(&self, _: Arc<dyn Watcher>) {}

        fn component_revisions(&self, _: &[&str]) -> Result<Vec<Option<Revision>>, StorageError> {
            Ok(vec![None; 2])
        }
    }
    let setup = Setup::new();
    let message = setup.coherence.poll(&Wrong).unwrap_err().to_string();
    assert!(message.contains("2 revisions for 1 components"), "{message}");
    assert_eq!(setup.coherence.stats().failed_polls, 1);
}

#[test]
fn keys_of_other_components_are_not_cached() {
    let setup = Setup::new();
    let storage = setup.cached.inner();
    storage.reset();
    for key in ["a/b/cc/key", "unscoped"] {
        setup.cached.set(key, "value".into()).unwrap();
        for _ in 0..2 {
            assert_eq!(setup.cached.get(key), Ok(Some(StorageValue::from("value"))));
        }
    }
    assert_eq!(storage.calls(Method::Get), 4);
}

#[test]
fn entries_expire_although_they_are_current() {
    let clock = ManualClock::new();
    let coherence = Coherence::new(clock.clock());
    let config = CacheConfig { ttl: Some(L / 2), ..CacheConfig::default() };
    let storage = CountingStorage::new(ReferenceStorage::new());
    let cached = CachedStorage::coherent(storage, config, PREFIX, L, &coherence);
    cached.set(KEY, "value".into()).unwrap();
    clock.advance(L / 2 - Duration::from_nanos(1));
    assert!(cached.try_get("", KEY).is_some());
    clock.advance(Duration::from_nanos(2));
    assert_eq!(cached.try_get("", KEY), None);
}

/// The clock of an unused component lapsed long ago.
#[test]
fn a_component_that_is_used_now_and_then_is_cached_in_between() {
    let setup = Setup::new();
    for round in 0..5 {
        setup.clock.advance(10 * L);
        assert!(!setup.is_cached());
        setup.cached.get(KEY).unwrap();
        setup.poll(1);
        assert!(setup.is_cached());
        assert_eq!(setup.cached.stats().lapses, round + 1);
        assert_eq!(setup.cached.stats().drops, 0, "nothing was missed meanwhile");
    }
}
