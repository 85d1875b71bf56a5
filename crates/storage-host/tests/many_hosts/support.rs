//! Shared test support.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use storage_core::conformance::{
    BlockingStorage, CountingStorage, FailingStorage, HostConnection, SharedReference,
};
use storage_host::{
    CacheConfig, CacheStats, ComponentChain, ComponentId, ComponentStorage, ManualClock,
    StorageHost, StorageHostBuilder, StorageValue,
};

/// The maximum staleness.
pub(crate) const L: Duration = Duration::from_secs(1);

/// How long to wait for a call before it counts as hanging.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) type Store = BlockingStorage<FailingStorage<CountingStorage<HostConnection>>>;

pub(crate) fn id(text: &str) -> ComponentId {
    text.parse().unwrap()
}

/// Which kind of cache a host has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Private,
    Shared,
}

/// A host, its connection, and a component whose first poll is done.
pub(crate) struct TestHost {
    pub(crate) host: StorageHost,
    pub(crate) chain: Arc<ComponentChain>,
    pub(crate) store: Arc<Store>,
}

/// Two hosts with a manual clock.
pub(crate) struct Hosts {
    pub(crate) clock: ManualClock,
    pub(crate) shared: SharedReference,
    pub(crate) one: TestHost,
    pub(crate) two: TestHost,
}

impl Hosts {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with(|builder| match kind {
            Kind::Private => builder.cache(CacheConfig { ttl: None, ..CacheConfig::default() }),
            Kind::Shared => builder.shared_cache(CacheConfig::default()),
        })
    }

    pub(crate) fn with(settings: impl Fn(StorageHostBuilder) -> StorageHostBuilder) -> Self {
        let (clock, shared) = (ManualClock::new(), SharedReference::new());
        let host = || TestHost::new(&shared, |builder| settings(builder.clock(clock.clock())));
        let (one, two) = (host(), host());
        Self { clock, shared, one, two }
    }
}

impl TestHost {
    fn new(
        shared: &SharedReference,
        settings: impl Fn(StorageHostBuilder) -> StorageHostBuilder,
    ) -> Self {
        let store = CountingStorage::new(shared.connect());
        let store = Arc::new(BlockingStorage::new(FailingStorage::new(store)));
        let host = settings(StorageHost::builder(store.clone())).build();
        let chain = host.component(&id("app/notes/home"));
        chain.get("first").unwrap();
        host.poll_changes().unwrap();
        Self { host, chain, store }
    }

    pub(crate) fn failing(&self) -> &FailingStorage<CountingStorage<HostConnection>> {
        self.store.inner()
    }

    pub(crate) fn counting(&self) -> &CountingStorage<HostConnection> {
        self.failing().inner()
    }

    pub(crate) fn connection(&self) -> &HostConnection {
        self.counting().inner()
    }

    #[track_caller]
    pub(crate) fn set(&self, key: &str, value: &str) {
        self.chain.set(key, value.into()).unwrap();
    }

    #[track_caller]
    pub(crate) fn reads(&self, key: &str, value: &str) {
        assert_eq!(self.chain.get(key), Ok(Some(value.into())));
    }

    /// What the cache knows of a key.
    pub(crate) fn cached(&self, key: &str) -> Option<Option<StorageValue>> {
        self.chain.try_get("", key)
    }

    #[track_caller]
    pub(crate) fn has_cached(&self, key: &str, value: &str) {
        assert_eq!(self.cached(key), Some(Some(value.into())));
    }

    pub(crate) fn stats(&self) -> CacheStats {
        self.chain.cache_stats()
    }

    #[track_caller]
    pub(crate) fn poll(&self) {
        self.host.poll_changes().unwrap();
    }

    /// Runs a call in another thread.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Running<T> {
        let own = Self {
            host: self.host.clone(),
            chain: Arc::clone(&self.chain),
            store: Arc::clone(&self.store),
        };
        let (sender, receiver) = channel();
        thread::spawn(move || drop(sender.send(call(&own))));
        Running(receiver)
    }
}

/// A call in another thread.
pub(crate) struct Running<T>(Receiver<T>);

impl<T> Running<T> {
    #[track_caller]
    pub(crate) fn finish(self) -> T {
        self.0.recv_timeout(TIMEOUT).expect("the call hangs or panicked")
    }
}
