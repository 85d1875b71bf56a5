//! Guests of an asynchronous linker: which thread asks storage, and what becomes of calls that
//! wait, are dropped or panic.

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use rstest::rstest;
use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, Fault, Held, Method, Moment, ReferenceStorage,
};
use storage_host::guest::{self, ComponentState};
use storage_host::wasmtime::component::{Component, Instance, InstancePre, Linker};
use storage_host::wasmtime::{self, Store};
use storage_host::{
    BriefReads, CacheConfig, ComponentStorage, Limits, ManualClock, Offload, RateLimit, Revision,
    SharedStore, StorageError, StorageHost, StoreProperties, Watcher, forward_storage,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::raw::{COMPONENT, DATA, ENGINE, IO_ERROR, OK, OK_SOME};

/// Several threads, as most hosts have.
pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

pub(crate) const LONG: Duration = Duration::from_secs(600);

/// A test hangs if it takes longer.
const HUNG: Duration = Duration::from_secs(300);

/// A runtime with one thread, the caller's.
fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Runs a future to its end, or ends the process if it blocks its executor.
pub(crate) fn run<R>(runtime: &Runtime, future: impl Future<Output = R>) -> R {
    let (_running, has_ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if has_ended.recv_timeout(HUNG) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a test has blocked its executor for {HUNG:?}");
            std::process::exit(1);
        }
    });
    runtime.block_on(future)
}

pub(crate) fn offload(threads: usize, per_component: usize, max_wait: Duration) -> Offload {
    let mut offload = Offload::default();
    (offload.threads, offload.per_component) = (threads, per_component);
    offload.max_wait = max_wait;
    offload
}

/// The raw guest in an asynchronous linker. Its keys are `k`s, distinguished by their number.
pub(crate) struct Guest {
    store: Store<ComponentState>,
    instance: Instance,
}

impl Guest {
    pub(crate) async fn new(host: &StorageHost, id: &str) -> Self {
        static LINKED: LazyLock<InstancePre<ComponentState>> = LazyLock::new(|| {
            let mut linker = Linker::new(&ENGINE);
            guest::add_to_linker_async(&mut linker, |state| state).unwrap();
            linker.instantiate_pre(&COMPONENT).unwrap()
        });
        let state = ComponentState::new(host.component(&id.parse().unwrap()));
        let mut store = guest::new_store(&ENGINE, state, |state| state);
        let instance = LINKED.instantiate_async(&mut store).await.unwrap();
        let mut guest = Self { store, instance };
        let fill = guest.instance.get_typed_func::<(u32, u32, u32), ()>(&mut guest.store, "fill");
        let keys = (DATA, u32::from(b'k'), 2_048);
        fill.unwrap().call_async(&mut guest.store, keys).await.unwrap();
        guest
    }

    async fn call(&mut self, name: &str, key_len: u32) -> wasmtime::Result<u32> {
        let function = self.instance.get_typed_func::<(u32, u32), (u32,)>(&mut self.store, name);
        Ok(function?.call_async(&mut self.store, (DATA, key_len)).await?.0)
    }

    async fn get(&mut self, key_len: u32) -> wasmtime::Result<u32> {
        self.call("get", key_len).await
    }

    /// Stores this many `k`s under this many `k`s.
    pub(crate) async fn set(&mut self, key_len: u32, len: u32) -> wasmtime::Result<u32> {
        let set =
            self.instance.get_typed_func::<(u32, u32, u32, u32), (u32,)>(&mut self.store, "set");
        Ok(set?.call_async(&mut self.store, (DATA, key_len, DATA, len)).await?.0)
    }

    /// The text of the last error.
    async fn text(&mut self) -> String {
        let text = self.instance.get_typed_func::<(), (String,)>(&mut self.store, "text").unwrap();
        text.call_async(&mut self.store, ()).await.unwrap().0
    }
}

/// Waits until this many calls are blocked, while other tasks run.
pub(crate) async fn blocked(held: &Held, calls: usize) {
    let begun = Instant::now();
    while held.waiting() < calls {
        assert!(begun.elapsed() < LONG, "only {} calls are blocked", held.waiting());
        sleep(Duration::from_millis(1)).await;
    }
}

/// Polls a call once; it must have to wait.
pub(crate) async fn begin<F: Future>(call: &mut Pin<Box<F>>) {
    future::poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Pending => Poll::Ready(()),
        Poll::Ready(_) => panic!("the call did not wait"),
    })
    .await;
}

/// A store that may block, unlike those in memory.
pub(crate) struct Local<S>(pub(crate) S);

impl<S: storage_host::Store> ComponentStorage for Local<S> {
    forward_storage!(self => self.0);
}

impl<S: storage_host::Store> storage_host::Store for Local<S> {
    fn properties(&self) -> StoreProperties {
        self.0.properties().with_may_block(true)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.0.flush()
    }
}

pub(crate) fn blocking() -> Arc<Local<BlockingStorage<ReferenceStorage>>> {
    Arc::new(Local(BlockingStorage::new(ReferenceStorage::new())))
}

#[test]
fn other_tasks_run_while_all_writers_are_blocked() {
    const GUESTS: usize = 64;
    let backend = blocking();
    let host = StorageHost::builder(backend.clone()).offload(offload(GUESTS, 1, LONG)).build();
    let held = backend.0.hold(&[Method::Set], Moment::Before);
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    // On a thread of its own, to release the writers even if they block the executor.
    let observer = thread::spawn(move || {
        held.wait_for(GUESTS);
        let (before, begun) = (counted.load(Ordering::SeqCst), Instant::now());
        while counted.load(Ordering::SeqCst) < before + 100 && begun.elapsed() < LONG / 10 {
            thread::sleep(Duration::from_millis(1));
        }
        (counted.load(Ordering::SeqCst) - before, held.waiting())
    });
    run(&one_thread(), async {
        let heart = tokio::spawn(async move {
            loop {
                beats.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(1)).await;
            }
        });
        let mut writers = Vec::new();
        for n in 0..GUESTS {
            let mut guest = Guest::new(&host, &format!("a/b/{n}")).await;
            writers.push(tokio::spawn(async move { guest.set(4, 4).await }));
        }
        for writer in writers {
            assert_eq!(writer.await.unwrap().unwrap(), OK);
        }
        heart.abort();
    });
    let (beats, still_blocked) = observer.join().unwrap();
    assert!(beats >= 100, "{beats} beats");
    assert_eq!(still_blocked, GUESTS);
}

#[test]
fn a_call_over_the_rate_needs_no_thread() {
    let backend = blocking();
    let rate = RateLimit::new(Some(1), None, Duration::from_secs(1)).unwrap();
    let host = StorageHost::builder(backend.clone())
        .offload(offload(1, 1, LONG))
        .rate(rate)
        .clock(ManualClock::new().clock())
        .build();
    let held = backend.0.hold(&[Method::Set], Moment::Before);
    run(&one_thread(), async {
        let mut first = Guest::new(&host, "a/b/1").await;
        let first = tokio::spawn(async move { first.set(4, 4).await });
        blocked(&held, 1).await;
        // No permit is free, and no one waits for one.
        let mut second = Guest::new(&host, "a/b/1").await;
        assert_eq!(second.set(4, 4).await.unwrap(), IO_ERROR);
        let text = "2 operations per second are over the limit of 1; try again in 1000 ms";
        assert_eq!(second.text().await, text);
        assert_eq!(second.get(4).await.unwrap(), IO_ERROR);
        drop(held);
        assert_eq!(first.await.unwrap().unwrap(), OK);
    });
    #[cfg(feature = "metrics")]
    {
        let metrics = host.metrics();
        assert_eq!((metrics.components[0].over_rate, metrics.components[0].operations), (2, 3));
        assert_eq!((metrics.offload.waiting, metrics.offload.refused), (0, 0));
    }
}

#[rstest]
#[case::it_waits_for_a_permit(1, 8)]
#[case::it_is_queued_in_the_pool(8, 1)]
fn a_call_that_is_dropped_before_it_starts_never_happens(
    #[case] permits: usize,
    #[case] pool: usize,
) {
    let backend = blocking();
    let host = StorageHost::builder(backend.clone()).offload(offload(permits, 8, LONG)).build();
    let held = backend.0.hold(&[Method::Set], Moment::Before);
    let runtime =
        Builder::new_current_thread().enable_time().max_blocking_threads(pool).build().unwrap();
    run(&runtime, async {
        let mut first = Guest::new(&host, "a/b/1").await;
        let first = tokio::spawn(async move { first.set(4, 4).await });
        blocked(&held, 1).await;
        let mut second = Guest::new(&host, "a/b/2").await;
        let mut call = Box::pin(second.set(4, 4));
        begin(&mut call).await;
        drop(call);
        drop(held);
        assert_eq!(first.await.unwrap().unwrap(), OK);
        host.drain(LONG).await.unwrap();
    });
    assert_eq!(backend.list_keys(None).unwrap(), ["a/b/1/kkkk"]);
}

#[test]
fn a_started_call_that_is_dropped_completes_and_keeps_its_permit() {
    let backend = blocking();
    let none = Duration::ZERO;
    let host = StorageHost::builder(backend.clone()).offload(offload(1, 1, none)).build();
    let held = backend.0.hold(&[Method::Set], Moment::Before);
    run(&one_thread(), async {
        let mut first = Guest::new(&host, "a/b/1").await;
        let mut call = Box::pin(first.set(4, 4));
        begin(&mut call).await;
        blocked(&held, 1).await;
        drop(call);
        drop(first);
        let mut second = Guest::new(&host, "a/b/2").await;
        let refused = tokio::spawn(async move {
            assert_eq!(second.set(4, 4).await.unwrap(), IO_ERROR);
            second.text().await
        });
        while !refused.is_finished() {
            assert_eq!(held.waiting(), 1, "the permit was returned too early");
            sleep(Duration::from_millis(1)).await;
        }
        let text = refused.await.unwrap();
        assert_eq!(
            text,
            "the host is overloaded: no thread was free within 0 s; nothing was changed, try \
             again later"
        );
        drop(held);
        host.drain(LONG).await.unwrap();
    });
    assert_eq!(backend.list_keys(None).unwrap(), ["a/b/1/kkkk"]);
    assert_eq!(backend.get("a/b/1/kkkk").unwrap(), Some("kkkk".into()));
}

#[test]
fn a_component_that_floods_the_host_uses_its_share_of_the_threads() {
    let backend = blocking();
    // Without a cache, in which writes to different keys may wait for each other.
    let cache = CacheConfig { max_entries: 0, ..CacheConfig::default() };
    let offload = offload(3, 2, LONG);
    let host = StorageHost::builder(backend.clone()).cache(cache).offload(offload).build();
    let held = backend.0.hold(&[Method::Set], Moment::After);
    run(&RUNTIME, async {
        let mut calls = Vec::new();
        for _ in 0..10 {
            let mut guest = Guest::new(&host, "a/flood/1").await;
            let len = 1 + calls.len() as u32;
            calls.push(tokio::spawn(async move { guest.set(len, 1).await }));
        }
        blocked(&held, 2).await;
        let mut other = Guest::new(&host, "a/other/1").await;
        calls.push(tokio::spawn(async move { other.set(1, 1).await }));
        // The third thread is free, whatever the flood waits for.
        blocked(&held, 3).await;
        let others = backend.0.inner().list_keys(Some("a/other/1/")).unwrap();
        assert_eq!((held.waiting(), others), (3, vec!["a/other/1/k".to_owned()]));
        drop(held);
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), OK);
        }
    });
    assert_eq!(backend.list_keys(None).unwrap().len(), 11);
}

#[test]
fn a_panic_of_storage_is_an_error_of_one_call() {
    let backend = Arc::new(Local(FailingStorage::new(ReferenceStorage::new())));
    let host = StorageHost::new(backend.clone());
    backend.0.inject(Fault::panic("injected").on(&[Method::Set]).nth(1));
    run(&RUNTIME, async {
        let mut guest = Guest::new(&host, "a/b/1").await;
        assert_eq!(guest.set(4, 4).await.unwrap(), IO_ERROR);
        let text = guest.text().await;
        assert!(text.starts_with("storage failed (incident "), "{text}");
        assert_eq!(guest.set(4, 4).await.unwrap(), OK);
        host.drain(LONG).await.unwrap();
    });
}

#[test]
fn draining_waits_for_calls_in_progress_and_flushes() {
    let counting = CountingStorage::new(ReferenceStorage::new());
    let backend = Arc::new(Local(BlockingStorage::new(counting)));
    let host = StorageHost::new(backend.clone());
    let held = backend.0.hold(&[Method::Get], Moment::Before);
    run(&one_thread(), async {
        let mut reader = Guest::new(&host, "a/b/1").await;
        let reading = tokio::spawn(async move { reader.get(4).await });
        blocked(&held, 1).await;
        let draining = tokio::spawn({
            let host = host.clone();
            async move { host.drain(LONG).await }
        });
        while !host.is_shut_down() {
            sleep(Duration::from_millis(1)).await;
        }
        let mut late = Guest::new(&host, "a/b/2").await;
        let trap = late.set(4, 4).await.unwrap_err();
        assert_eq!(trap.root_cause().to_string(), "the host is shutting down");
        assert!(!draining.is_finished(), "a read is in progress");
        drop(held);
        assert_eq!(reading.await.unwrap().unwrap(), OK);
        draining.await.unwrap().unwrap();
        let stuck = backend.0.hold(&[Method::Flush], Moment::Before);
        assert!(host.drain(Duration::ZERO).await.is_err());
        drop(stuck);
    });
    assert!(backend.0.inner().calls(Method::Flush) > 0);
}

/// A store that records which threads call it.
struct Recorder {
    inner: ReferenceStorage,
    properties: StoreProperties,
    threads: Mutex<Vec<ThreadId>>,
}

impl Recorder {
    fn record(&self) -> &ReferenceStorage {
        self.threads.lock().unwrap().push(thread::current().id());
        &self.inner
    }

    /// Whether this thread made all calls since the last question; `None` without calls.
    fn was_called_here(&self) -> Option<bool> {
        let calls = std::mem::take(&mut *self.threads.lock().unwrap());
        (!calls.is_empty()).then(|| calls.iter().all(|id| *id == thread::current().id()))
    }
}

impl ComponentStorage for Recorder {
    forward_storage!(self => *self.record(); get, set, delete, exists, list_keys, list_page);
}

impl storage_host::Store for Recorder {
    fn properties(&self) -> StoreProperties {
        self.properties.clone()
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.properties.shared_with_other_hosts.then_some(self)
    }
}

impl SharedStore for Recorder {
    fn watch(&self, _: Arc<dyn Watcher>) {}

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        Ok(vec![None; prefixes.len()])
    }
}

const HERE: Option<bool> = Some(true);
const ELSEWHERE: Option<bool> = Some(false);

#[rstest]
#[case(false, BriefReads::Auto, "local", ELSEWHERE, ELSEWHERE)]
#[case(false, BriefReads::InPlace, "local", HERE, ELSEWHERE)]
#[case(false, BriefReads::InPlace, "shared", ELSEWHERE, ELSEWHERE)]
#[case(false, BriefReads::Offload, "memory", HERE, HERE)]
#[case(true, BriefReads::Auto, "local", HERE, ELSEWHERE)]
#[case(true, BriefReads::Offload, "local", ELSEWHERE, ELSEWHERE)]
#[case(true, BriefReads::Auto, "shared", ELSEWHERE, ELSEWHERE)]
fn calls_that_may_block_leave_the_executor(
    #[case] several_threads: bool,
    #[case] brief_reads: BriefReads,
    #[case] store: &str,
    #[case] read: Option<bool>,
    #[case] write: Option<bool>,
) {
    let properties = StoreProperties::new("recorder")
        .with_may_block(store != "memory")
        .with_shared_with_other_hosts(store == "shared");
    let (inner, threads) = (ReferenceStorage::new(), Mutex::default());
    let backend = Arc::new(Recorder { inner, properties, threads });
    let mut offload = Offload::default();
    offload.brief_reads = brief_reads;
    let host = StorageHost::builder(backend.clone()).offload(offload).max_staleness(LONG).build();
    let runs = async {
        let mut guest = Guest::new(&host, "a/b/1").await;
        assert_eq!(guest.get(1).await.unwrap(), OK);
        assert_eq!(backend.was_called_here(), read, "a get");
        assert_eq!(guest.set(2, 1).await.unwrap(), OK);
        assert_eq!(backend.was_called_here(), write, "a set");
        assert_eq!(guest.call("list", 1).await.unwrap(), OK);
        assert_eq!(backend.was_called_here(), write, "a listing");
        assert_eq!(guest.call("delete", 3).await.unwrap(), OK);
        assert_eq!(backend.was_called_here(), write, "a delete");
        if store != "memory" {
            assert_eq!(guest.get(2).await.unwrap(), OK_SOME);
            assert_eq!(backend.was_called_here(), None, "a hit");
        }
    };
    if several_threads { run(&RUNTIME, runs) } else { run(&one_thread(), runs) }
}

/// A guest that reads several keys with one call.
async fn batch_guest(host: &StorageHost, id: &str) -> BatchGuest {
    let text = include_str!("batch.wat");
    let component = Component::new(&ENGINE, wat::parse_str(text).unwrap()).unwrap();
    let mut linker = Linker::new(&ENGINE);
    guest::add_to_linker_async(&mut linker, |state| state).unwrap();
    let state = ComponentState::new(host.component(&id.parse().unwrap()));
    let mut store = guest::new_store(&ENGINE, state, |state| state);
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    BatchGuest { store, instance }
}

struct BatchGuest {
    store: Store<ComponentState>,
    instance: Instance,
}

impl BatchGuest {
    /// Reads the keys `0` to `count - 1`, and returns how many have a value.
    async fn get_many(&mut self, count: u32) -> wasmtime::Result<u32> {
        let function =
            self.instance.get_typed_func::<(Vec<String>,), (u32,)>(&mut self.store, "get-many");
        let keys = (0..count).map(|number| number.to_string()).collect();
        Ok(function?.call_async(&mut self.store, (keys,)).await?.0)
    }
}

#[test]
fn many_keys_are_read_from_memory_or_on_another_thread() {
    const ID: &str = "a/b/1";
    let properties = StoreProperties::new("recorder").with_may_block(true);
    let (inner, threads) = (ReferenceStorage::new(), Mutex::default());
    inner.set("a/b/1/3", "three".into()).unwrap();
    inner.set("a/b/1/17", "seventeen".into()).unwrap();
    let backend = Arc::new(Recorder { inner, properties, threads });
    let mut offload = Offload::default();
    offload.brief_reads = BriefReads::InPlace;
    let host = StorageHost::builder(backend.clone()).offload(offload).build();
    let hits_and_misses = || {
        let stats = host.cache_stats(&ID.parse().unwrap());
        (stats.hits, stats.misses)
    };
    run(&one_thread(), async {
        let mut guest = batch_guest(&host, ID).await;
        assert_eq!(guest.get_many(16).await.unwrap(), 1);
        assert_eq!(backend.was_called_here(), HERE, "few keys");
        assert_eq!(hits_and_misses(), (0, 16));
        // Sixteen of them are known, and are not counted or read twice.
        assert_eq!(guest.get_many(18).await.unwrap(), 2);
        assert_eq!(backend.was_called_here(), ELSEWHERE, "many keys");
        assert_eq!(hits_and_misses(), (16, 18));
        assert_eq!(guest.get_many(18).await.unwrap(), 2);
        assert_eq!(backend.was_called_here(), None, "known keys");
        assert_eq!(hits_and_misses(), (34, 18));
        assert_eq!(guest.get_many(0).await.unwrap(), 0);
    });
}

#[test]
fn known_values_count_for_the_limit_of_a_batch() {
    let backend = Arc::new(Local(ReferenceStorage::new()));
    for key in 0..3 {
        backend.set(&format!("a/b/1/{key}"), "12345".into()).unwrap();
    }
    let mut limits = Limits::default();
    // Two keys and their values.
    limits.batch_bytes = 12;
    let host = StorageHost::builder(backend).limits(limits).build();
    run(&one_thread(), async {
        let mut guest = batch_guest(&host, "a/b/1").await;
        for _ in 0..2 {
            assert_eq!(guest.get_many(2).await.unwrap(), 2);
        }
        // The guest ends when its call fails. One value is not known, and then all are.
        assert!(guest.get_many(3).await.is_err());
        let chain = host.component(&"a/b/1".parse().unwrap());
        assert!(chain.get("2").unwrap().is_some());
        let mut guest = batch_guest(&host, "a/b/1").await;
        assert!(guest.get_many(3).await.is_err());
    });
}

#[test]
fn a_brief_read_in_place_keeps_a_permit() {
    let backend = blocking();
    let offload = offload(1, 1, Duration::ZERO);
    let host = StorageHost::builder(backend.clone()).offload(offload).build();
    let held = backend.0.hold(&[Method::Get], Moment::Before);
    run(&RUNTIME, async {
        let mut first = Guest::new(&host, "a/b/1").await;
        let first = tokio::spawn(async move { first.get(4).await });
        blocked(&held, 1).await;
        // Without a free permit the second read goes to the offload, which has none either.
        let mut second = Guest::new(&host, "a/b/2").await;
        let second = tokio::spawn(async move {
            let answer = second.get(4).await;
            (answer, second.text().await)
        });
        while !second.is_finished() {
            assert_eq!(held.waiting(), 1, "a read was made without a permit");
            sleep(Duration::from_millis(1)).await;
        }
        let (answer, text) = second.await.unwrap();
        assert_eq!(answer.unwrap(), IO_ERROR);
        assert!(text.starts_with("the host is overloaded: "), "{text}");
        drop(held);
        assert_eq!(first.await.unwrap().unwrap(), OK);
        host.drain(LONG).await.unwrap();
    });
}
