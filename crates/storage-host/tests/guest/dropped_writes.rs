//! Writes that are dropped at any moment.

use std::future::{self, Future};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;

use storage_host::{
    Budget, ComponentStorage, StorageError, StorageHost, StorageValue, StoreProperties,
    forward_storage,
};

use crate::asynchronous::{Guest, LONG, RUNTIME, offload, run};
use crate::raw::OK;
use crate::runner::host_on;

fn ks(count: u32) -> String {
    "k".repeat(count as usize)
}

/// A store whose writes take a little while.
struct Sluggish(Arc<dyn storage_host::Store>);

impl Sluggish {
    fn pause(&self) -> &dyn ComponentStorage {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..CALLS.fetch_add(1, Ordering::Relaxed) % 7 {
            thread::yield_now();
        }
        &*self.0
    }
}

impl ComponentStorage for Sluggish {
    forward_storage!(self => *self.pause(); set, delete, commit);
    forward_storage!(self => *self.0; get, exists, list_keys, get_versioned, usage);
}

impl storage_host::Store for Sluggish {
    fn properties(&self) -> StoreProperties {
        self.0.properties()
    }
}

/// One write for each round, dropped at another moment each time.
#[test]
fn dropped_writes_leave_the_old_or_the_new_value() {
    const ROUNDS: u32 = 1_000;
    const ID: &str = "a/b/1";
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::clone(host_on("redb", directory.path()).unwrap().store());
    let backend = Arc::new(Sluggish(store));
    let quota = Budget { max_bytes: 10 << 20, max_keys: 10_000 };
    let offload = offload(3, 3, LONG);
    let host = StorageHost::builder(backend.clone()).quota(quota).offload(offload).build();
    let chain = host.component(&ID.parse().unwrap());
    for round in (1..=ROUNDS).step_by(2) {
        chain.set(&ks(round), "old".into()).unwrap();
    }
    let mut completed = Vec::new();
    run(&RUNTIME, async {
        for round in 1..=ROUNDS {
            let mut guest = Guest::new(&host, ID).await;
            let mut call = Box::pin(guest.set(round, round));
            match round % 4 {
                0 => drop(call),
                1 => completed.push(call.await.unwrap()),
                _ => {
                    for _ in 0..round % 29 {
                        let mut done = false;
                        future::poll_fn(|context| {
                            done = call.as_mut().poll(context).is_ready();
                            Poll::Ready(())
                        })
                        .await;
                        if done {
                            break;
                        }
                        thread::yield_now();
                    }
                }
            }
        }
        host.drain(LONG).await.unwrap();
    });
    assert_eq!(completed, vec![OK; ROUNDS as usize / 4]);
    let (mut bytes, mut keys) = (0, 0);
    for round in 1..=ROUNDS {
        let key = ks(round);
        let found = backend.0.get(&format!("{ID}/{key}")).unwrap();
        let old = (round % 2 == 1).then(|| StorageValue::from("old"));
        let new = Some(StorageValue::from(key.as_str()));
        match round % 4 {
            0 => assert_eq!(found, old, "round {round} never began"),
            1 => assert_eq!(found, new, "round {round} was acknowledged"),
            _ => assert!(found == old || found == new, "round {round}: {found:?}"),
        }
        if let Some(known) = chain.try_get("", &key) {
            assert_eq!(known, found, "what the cache has in round {round}");
        }
        bytes += found.as_ref().map_or(0, |found| (key.len() + found.len()) as u64);
        keys += u64::from(found.is_some());
    }
    let usage = backend.0.usage(Some(&format!("{ID}/"))).unwrap();
    let prefixes = keys * (ID.len() as u64 + 1);
    assert_eq!((usage.bytes - prefixes, usage.keys), (bytes, keys));
    assert!(matches!(chain.set("k", "late".into()), Err(StorageError::Unavailable { .. })));
}
