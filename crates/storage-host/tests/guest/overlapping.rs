//! Dialects whose calls overlap: `spin:key-value@3.0.0` and `wasmcloud:keyvalue@0.2.0`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rstest::rstest;
use storage_core::conformance::{BlockingStorage, Held, Method, Moment, ReferenceStorage};
use storage_host::guest::{self, CONCURRENT_CALLS};
use storage_host::wasmtime::component::{
    Component, ComponentNamedList, Instance, Lift, Linker, Lower,
};
use storage_host::wasmtime::{self, Engine, Store};
use storage_host::wasmtime_wasi::{WasiCtx, p2};
use storage_host::{
    Budget, CacheConfig, ComponentId, ComponentStorage, Offload, StorageHost, StorageValue,
};

use crate::asynchronous::{Local, RUNTIME, begin, blocked, blocking};
use crate::runner::{State, guest_file, host_on};

const ID: &str = "conformance/guest/1";
const MINUTE: Duration = Duration::from_secs(60);

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&guest::async_engine_config()).unwrap());
static SPIN: LazyLock<Component> =
    LazyLock::new(|| Component::from_file(&ENGINE, guest_file("spin3")).unwrap());
static WASMCLOUD: LazyLock<Component> =
    LazyLock::new(|| Component::from_file(&ENGINE, guest_file("wasmcloud")).unwrap());
static HASTY: LazyLock<Component> = LazyLock::new(|| {
    let text = include_str!("overlapping.wat");
    Component::new(&ENGINE, wat::parse_str(text).unwrap()).unwrap()
});

fn id() -> ComponentId {
    ID.parse().unwrap()
}

struct Guest {
    store: Store<State>,
    instance: Instance,
}

impl Guest {
    async fn new(host: &StorageHost, component: &Component) -> Self {
        let mut linker = Linker::new(&ENGINE);
        p2::add_to_linker_async(&mut linker).unwrap();
        guest::add_to_linker_async_for(component, &mut linker, |state: &mut State| {
            &mut state.storage
        })
        .unwrap();
        let state = State::new(host, ID, WasiCtx::builder().build());
        let mut store = guest::new_async_store(&ENGINE, state, |state| &mut state.storage);
        let instance = linker.instantiate_async(&mut store, component).await.unwrap();
        Self { store, instance }
    }

    async fn try_call<P, R>(&mut self, name: &str, params: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
    {
        let function = self.instance.get_typed_func::<P, (R,)>(&mut self.store, name)?;
        Ok(function.call_async(&mut self.store, params).await?.0)
    }

    async fn call<P, R>(&mut self, name: &str, params: P) -> R
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: Send + Sync + 'static,
        (R,): ComponentNamedList + Lift,
    {
        self.try_call(name, params).await.unwrap()
    }

    async fn set_at_once(&mut self, calls: u32, value: &[u8]) -> Vec<String> {
        self.call("set-at-once", (calls, value.to_vec())).await
    }
}

/// A host on a store that holds the writes of guests, at most `threads` at a time.
struct Holding {
    host: StorageHost,
    backend: Arc<Local<BlockingStorage<ReferenceStorage>>>,
    writes: Option<Held>,
}

impl Holding {
    fn new(threads: usize, quota: Option<Budget>) -> Self {
        let backend = blocking();
        let mut offload = Offload::default();
        (offload.threads, offload.per_component) = (threads, threads);
        offload.max_wait = MINUTE;
        let mut builder = StorageHost::builder(backend.clone());
        if let Some(quota) = quota {
            builder = builder.quota(quota);
        }
        // In the cache, keys may share a lock.
        let cache = CacheConfig { max_entries: 0, ..CacheConfig::default() };
        let host = builder.cache(cache).offload(offload).build();
        let writes = Some(backend.0.hold(&[Method::Set, Method::Commit], Moment::Before));
        Self { host, backend, writes }
    }

    /// Waits until the store holds this many writes.
    async fn wait_for(&self, writes: usize) {
        blocked(self.writes.as_ref().unwrap(), writes).await;
    }

    fn release(&mut self) {
        self.writes.take().unwrap().release();
    }

    /// What the component has stored once nothing is in progress.
    async fn stored(self) -> BTreeMap<String, StorageValue> {
        self.host.drain(MINUTE).await.unwrap();
        let prefix = format!("{ID}/");
        let keys = self.backend.list_keys(Some(&prefix)).unwrap();
        let value = |key: &String| self.backend.get(key).unwrap().unwrap();
        keys.iter().map(|key| (key[prefix.len()..].to_owned(), value(key))).collect()
    }
}

/// How often each of these texts came.
fn times(texts: &[String]) -> BTreeMap<&str, usize> {
    let mut times = BTreeMap::new();
    for text in texts {
        *times.entry(text.as_str()).or_default() += 1;
    }
    times
}

#[rstest]
fn a_table_is_the_same_on_every_store(
    #[values("spin3", "wasmcloud")] guest: &str,
    #[values("memory", "file", "redb", "rocksdb", "postgres", "redis", "redis_cluster")]
    store: &str,
) {
    RUNTIME.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let Some(host) = host_on(store, directory.path()) else { return };
        let neighbour = host.component(&"conformance/neighbour/1".parse().unwrap());
        neighbour.set("conformance/opening", "the neighbour's".into()).unwrap();

        let component = if guest == "spin3" { &*SPIN } else { &*WASMCLOUD };
        let mut running = Guest::new(&host, component).await;
        let table: Result<String, String> = running.call("run", (false,)).await;
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            description => format!("what {guest}.wasm finds, on every store"),
        }, {
            insta::assert_snapshot!(guest, table.unwrap());
        });
        let left = host.component(&id()).list_keys(None).unwrap();
        assert_eq!(left, Vec::<String>::new(), "the guest leaves nothing behind");
    });
}

#[test]
fn errors_expose_nothing_of_the_host() {
    RUNTIME.block_on(async {
        for (component, texts) in [
            (&*SPIN, &["other: a key has at least 1 byte; this one is empty"][..]),
            (&*WASMCLOUD, &["other: ttl-ms is not supported: keys of this store do not expire"]),
        ] {
            let host = crate::runner::memory();
            let mut guest = Guest::new(&host, component).await;
            let table: Result<String, String> = guest.call("run", (true,)).await;
            let table = table.unwrap();
            let limit = "other: 1048577 bytes of a value are over the limit of 1048576";
            for text in texts.iter().chain([&limit]) {
                assert!(table.contains(text), "{text}\n{table}");
            }
            for word in ["incident", ID, "cannot take"] {
                assert!(!table.contains(word), "{word}\n{table}");
            }
        }
    });
}

#[test]
fn sixteen_calls_of_an_instance_are_in_the_store_at_once() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(16, None);
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let mut call = Box::pin(guest.set_at_once(16, b"value"));
        begin(&mut call).await;
        holding.wait_for(16).await;
        holding.release();
        assert_eq!(times(&call.await), BTreeMap::from([("ok", 16)]));
        assert_eq!(holding.stored().await.len(), 16);
    });
}

#[test]
fn calls_above_the_limit_are_refused() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(16, None);
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let mut call = Box::pin(guest.set_at_once(100, b"value"));
        begin(&mut call).await;
        holding.wait_for(16).await;
        holding.release();
        let first = call.await;
        let later = guest.set_at_once(10, b"value").await;
        let refused = "other: 65 calls in progress are over the limit of 64";
        assert_eq!(times(&first[..CONCURRENT_CALLS]), BTreeMap::from([("ok", CONCURRENT_CALLS)]));
        assert_eq!(times(&first[CONCURRENT_CALLS..]), BTreeMap::from([(refused, 36)]));
        assert_eq!(
            times(&later),
            BTreeMap::from([("ok", 10)]),
            "those that have ended do not count"
        );
        assert_eq!(holding.stored().await.len(), CONCURRENT_CALLS);
    });
}

#[test]
fn the_arguments_of_all_calls_are_bounded() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(64, None);
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let mut call = Box::pin(guest.set_at_once(20, &[b'v'; 1 << 20]));
        begin(&mut call).await;
        // 15 values and keys are below 16 MiB.
        holding.wait_for(15).await;
        holding.release();
        let results = call.await;
        assert_eq!(times(&results[..15]), BTreeMap::from([("ok", 15)]));
        let refused = "bytes of the calls in progress are over the limit of 16777216";
        assert!(results[15..].iter().all(|result| result.contains(refused)), "{results:?}");
        assert_eq!(holding.stored().await.len(), 15);
    });
}

#[test]
fn large_results_come_one_after_another() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(64, None);
        holding.release();
        let host = &holding.host;
        let value = vec![b'v'; 1 << 20];
        for key in 0..40 {
            host.component(&id()).set(&key.to_string(), value.as_slice().into()).unwrap();
        }
        host.component(&id()).clear_cache();
        let mut guest = Guest::new(host, &SPIN).await;
        let results: Vec<String> = guest.call("get-at-once", (40_u32,)).await;
        assert_eq!(times(&results), BTreeMap::from([("1048576 bytes", 40)]));
    });
}

#[test]
fn a_quota_is_exact_with_overlapping_calls() {
    RUNTIME.block_on(async {
        let quota = Budget { max_bytes: 1_000, max_keys: 10 };
        let mut holding = Holding::new(16, Some(quota));
        holding.release();
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let results = guest.set_at_once(16, b"value").await;
        let over = "other: over the quota of 1000 bytes and 10 keys: delete some first";
        assert_eq!(times(&results), BTreeMap::from([("ok", 10), (over, 6)]));
        let usage = holding.host.usage(&id()).unwrap();
        assert_eq!(usage.key_count, 10);
        assert_eq!(holding.stored().await.len(), 10);
    });
}

#[test]
fn arguments_are_read_before_the_call_returns() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(1, None);
        let mut guest = Guest::new(&holding.host, &HASTY).await;
        let mut call = Box::pin(guest.call::<_, u32>("run", ()));
        begin(&mut call).await;
        holding.wait_for(1).await;
        holding.release();
        assert_eq!(call.await, 0, "the result is ok");
        let stored = holding.stored().await;
        assert_eq!(stored, BTreeMap::from([("key".to_owned(), "value".into())]));
    });
}

#[test]
fn an_instance_that_ends_leaves_what_has_started_and_nothing_else() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(4, None);
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let mut call = Box::pin(guest.set_at_once(16, b"value"));
        begin(&mut call).await;
        holding.wait_for(4).await;
        drop(call);
        drop(guest);
        holding.release();
        let stored = holding.stored().await;
        assert_eq!(stored.len(), 4);
        assert!(stored.values().all(|value| *value == "value".into()), "{stored:?}");
    });
}

#[test]
fn a_dropped_call_leaves_the_old_value_or_the_new_one() {
    RUNTIME.block_on(async {
        for _ in 0..50 {
            let mut holding = Holding::new(2, None);
            holding.release();
            let mut guest = Guest::new(&holding.host, &SPIN).await;
            assert_eq!(times(&guest.set_at_once(16, b"old").await), BTreeMap::from([("ok", 16)]));
            let function = guest
                .instance
                .get_typed_func::<(u32, Vec<u8>), ()>(&mut guest.store, "drop-at-once");
            let params = (16, b"new".to_vec());
            function.unwrap().call_async(&mut guest.store, params).await.unwrap();
            // The instance works on, and drops do not use up its calls.
            let results: Vec<String> = guest.call("get-at-once", (32_u32,)).await;
            let expected = BTreeMap::from([("3 bytes", 16), ("none", 16)]);
            assert_eq!(times(&results), expected);
            let stored = holding.stored().await;
            assert_eq!(stored.len(), 16);
            let known =
                |value: &StorageValue| [b"old", b"new"].iter().any(|v| value.as_bytes() == *v);
            assert!(stored.values().all(known), "{stored:?}");
        }
    });
}

#[test]
fn dropped_calls_count_until_they_have_ended() {
    RUNTIME.block_on(async {
        const DROPPED: usize = 4;
        let mut holding = Holding::new(8, None);
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let reads = holding.backend.0.hold(&[Method::Get], Moment::Before);
        let writes = holding.writes.take().unwrap();
        let releasing = tokio::spawn(async move {
            blocked(&writes, DROPPED).await;
            blocked(&reads, 1).await;
            reads.release();
            writes
        });
        let function = guest
            .instance
            .get_typed_func::<(u32, Vec<u8>), ()>(&mut guest.store, "drop-after-get")
            .unwrap();
        let params = (DROPPED as u32, b"value".to_vec());
        function.call_async(&mut guest.store, params).await.unwrap();
        holding.writes = Some(releasing.await.unwrap());

        // The guest has dropped its calls, and the store has not ended them.
        let mut call = Box::pin(guest.set_at_once(CONCURRENT_CALLS as u32, b"value"));
        begin(&mut call).await;
        holding.wait_for(8).await;
        holding.release();
        let refused = "other: 65 calls in progress are over the limit of 64";
        let accepted = CONCURRENT_CALLS - DROPPED;
        assert_eq!(times(&call.await), BTreeMap::from([("ok", accepted), (refused, DROPPED)]));
        assert_eq!(holding.stored().await.len(), accepted);
    });
}

#[test]
fn open_listings_count_as_calls() {
    RUNTIME.block_on(async {
        let mut holding = Holding::new(4, None);
        holding.release();
        for key in 0..300 {
            holding.host.component(&id()).set(&key.to_string(), "".into()).unwrap();
        }
        let mut guest = Guest::new(&holding.host, &SPIN).await;
        let results: Vec<String> = guest.call("list-at-once", (70_u32,)).await;
        let refused = "other: 65 calls in progress are over the limit of 64";
        let expected = BTreeMap::from([("300 keys", CONCURRENT_CALLS), (refused, 6)]);
        assert_eq!(times(&results), expected);
        let again: Vec<String> = guest.call("list-at-once", (64_u32,)).await;
        assert_eq!(times(&again), BTreeMap::from([("300 keys", CONCURRENT_CALLS)]));
    });
}
