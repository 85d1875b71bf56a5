//! A storage below that calls the cache above it.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use rstest::rstest;
use storage_cache::{CacheConfig, CachedStorage};
use storage_core::conformance::{CountingStorage, FailingStorage, Fault, Method, ReferenceStorage};
use storage_core::{Commit, ComponentStorage, StorageError, StorageValue, forward_storage};

use crate::support::{Running, io_error, start};

type Inner = FailingStorage<CountingStorage<ReferenceStorage>>;
type Cached = CachedStorage<Arc<CallsBack>>;
type Hook = dyn Fn(&Cached) + Send + Sync;

/// Calls the cache above it at the beginning of every call.
#[derive(Default)]
struct CallsBack {
    inner: Inner,
    above: OnceLock<Weak<Cached>>,
    hook: Mutex<Option<Arc<Hook>>>,
}

fn setup() -> Arc<Cached> {
    let below = Arc::new(CallsBack::default());
    let cached = Arc::new(CachedStorage::new(Arc::clone(&below), CacheConfig::default()));
    below.above.set(Arc::downgrade(&cached)).unwrap();
    cached
}

impl CallsBack {
    fn call_back_with(&self, hook: impl Fn(&Cached) + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    fn call_back(&self) -> &Inner {
        // What the hook does, it does without being called again.
        let hook = self.hook.lock().unwrap().take();
        if let (Some(hook), Some(above)) = (hook, self.above.get().and_then(Weak::upgrade)) {
            hook(&above);
            *self.hook.lock().unwrap() = Some(hook);
        }
        &self.inner
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for CallsBack {
    forward_storage!(self => *self.call_back());
}

fn calling<T: Send + 'static>(
    cached: &Arc<Cached>,
    call: impl FnOnce(&Cached) -> T + Send + 'static,
) -> Running<T> {
    let cached = Arc::clone(cached);
    start(move || call(&cached))
}

#[rstest]
#[case::the_same_key("key")]
#[case::another_key("other")]
fn a_read_below_a_read_waits_for_nobody(#[case] nested: &'static str) {
    let cached = setup();
    cached.inner().inner.set("key", "value".into()).unwrap();
    cached.inner().inner.set("other", "value".into()).unwrap();
    cached.inner().call_back_with(move |above| {
        let value: Option<StorageValue> = Some("value".into());
        assert_eq!(above.get(nested), Ok(value.clone()));
        assert_eq!(above.exists(nested), Ok(true));
        assert_eq!(above.get_many(&[nested, nested]), Ok(vec![value; 2]));
        assert!(above.get_versioned(nested).unwrap().is_some());
        let _ = above.try_get("", nested);
    });
    let value: Option<StorageValue> = Some("value".into());
    assert_eq!(calling(&cached, |cached| cached.get("key")).finish(), Ok(value.clone()));
    cached.clear();
    let many = calling(&cached, |cached| cached.get_many(&["key", "other"])).finish();
    assert_eq!(many, Ok(vec![value.clone(), value.clone()]));
    // The outer reads kept what they read.
    assert_eq!(cached.try_get("", "key"), Some(value.clone()));
    assert_eq!(cached.try_get("", "other"), Some(value));
}

#[test]
fn a_read_below_a_write_waits_for_nobody() {
    let cached = setup();
    cached.inner().call_back_with(|above| {
        assert_eq!(above.get("key"), Ok(None));
        assert_eq!(above.get_many(&["key", "other"]), Ok(vec![None, None]));
    });
    calling(&cached, |cached| cached.set("key", "value".into())).finish().unwrap();
    assert_eq!(cached.get("key"), Ok(Some("value".into())));
}

#[test]
fn a_write_below_a_read_is_seen_by_it() {
    let cached = setup();
    cached.inner().call_back_with(|above| {
        above.set("key", "repaired".into()).unwrap();
        above.commit(Commit::new().set("other", "repaired".into())).unwrap();
    });
    let read = calling(&cached, |cached| cached.get("key")).finish();
    assert_eq!(read, Ok(Some("repaired".into())));
    assert_eq!(cached.try_get("", "key"), Some(Some("repaired".into())));
    assert_eq!(cached.try_get("", "other"), Some(Some("repaired".into())));
}

/// It would wait for the lock that its own thread holds.
#[test]
fn a_write_below_a_write_is_refused() {
    let cached = setup();
    cached.inner().call_back_with(|above| {
        for key in ["key", "other"] {
            let refused = [
                above.set(key, "nested".into()),
                storage_core::put(&above, key, "nested".into()).map(drop),
                above.delete(key),
                above.commit(Commit::new().set(key, "nested".into())).map(drop),
            ];
            for result in refused {
                assert!(matches!(result, Err(StorageError::Unsupported(_))), "{result:?}");
            }
        }
    });
    calling(&cached, |cached| cached.set("key", "value".into())).finish().unwrap();
    calling(&cached, |cached| cached.commit(Commit::new().set("a", "b".into()))).finish().unwrap();
    *cached.inner().hook.lock().unwrap() = None;
    assert_eq!(cached.get("key"), Ok(Some("value".into())));
    assert_eq!(cached.get("other"), Ok(None));
}

/// Every attempt to read is overtaken by a write that fails, so nothing is there
/// to be found either. In the end the read keeps writes off.
#[test]
fn a_read_that_is_always_overtaken_ends() {
    let cached = setup();
    let inner = &cached.inner().inner;
    inner.inner().inner().set("key", "value".into()).unwrap();
    inner.inject(Fault::error(io_error()).on(&[Method::Set]));
    let refused = Arc::new(Mutex::new(0));
    cached.inner().call_back_with({
        let refused = Arc::clone(&refused);
        move |above| {
            if let Err(StorageError::Unsupported(_)) = above.set("key", "never".into()) {
                *refused.lock().unwrap() += 1;
            }
        }
    });
    let read = calling(&cached, |cached| cached.get("key")).finish();
    assert_eq!(read, Ok(Some("value".into())));
    assert_eq!(inner.inner().calls(Method::Get), 5);
    assert_eq!(*refused.lock().unwrap(), 1);
    // Whoever comes next finds no lock and no claim left behind.
    *cached.inner().hook.lock().unwrap() = None;
    inner.heal();
    assert_eq!(calling(&cached, |cached| cached.get("key")).finish(), Ok(Some("value".into())));
    calling(&cached, |cached| cached.set("key", "new".into())).finish().unwrap();
    assert_eq!(cached.get("key"), Ok(Some("new".into())));
}
