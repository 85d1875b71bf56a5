//! The conformance suite on every store, bare and under each decorator and chain, as `Box<dyn>`
//! and as `Arc<dyn>`.

use std::sync::Arc;

use rstest::rstest;
use storage_core::conformance::{Feature, Implementation, run};
use storage_host::{
    Budget, CacheConfig, CachedStorage, ComponentId, ComponentSettings, ComponentStorage,
    LimitedStorage, Limits, Mode, QuotaStorage, StorageHost, Store, StoreUrl,
    create_component_storage,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Memory,
    File,
    #[cfg(feature = "redb")]
    Redb,
    #[cfg(feature = "rocksdb")]
    RocksDb,
    /// The required methods only.
    RequiredMethods,
}

/// The decorators above the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layers {
    Bare,
    Namespaced,
    Cached,
    /// `NamespacedStorage` over `CachedStorage`, as in a chain.
    CachedNamespaced,
    Quota,
    Limited,
    /// `create_component_storage`.
    Created,
    /// A chain of a `StorageHost`, with a quota if the store supports it.
    Host,
    /// The same with a shared cache.
    HostSharing,
}

#[derive(Debug, Clone, Copy)]
enum Pointer {
    Box,
    Arc,
}

const AMPLE: Budget = Budget { max_bytes: 1 << 40, max_keys: 1 << 30 };

#[rstest]
#[case::memory(Engine::Memory)]
#[case::file(Engine::File)]
#[cfg_attr(feature = "redb", case::redb(Engine::Redb))]
#[cfg_attr(feature = "rocksdb", case::rocksdb(Engine::RocksDb))]
#[case::required_methods(Engine::RequiredMethods)]
fn the_contract_holds(
    #[case] store: Engine,
    #[values(
        Layers::Bare,
        Layers::Namespaced,
        Layers::Cached,
        Layers::CachedNamespaced,
        Layers::Quota,
        Layers::Limited,
        Layers::Created,
        Layers::Host,
        Layers::HostSharing
    )]
    layers: Layers,
    #[values(Pointer::Box, Pointer::Arc)] pointer: Pointer,
) {
    if (store, layers) == (Engine::RequiredMethods, Layers::Quota) {
        println!("SKIPPED {store:?} under {layers:?}: a quota needs commits");
        return;
    }
    let quota = Some(AMPLE).filter(|_| store != Engine::RequiredMethods);
    let made = layered(bare(store), layers, quota);
    let report =
        match pointer {
            Pointer::Box => run(&made.wrapped("Box<dyn>", |inner| inner)),
            Pointer::Arc => run(&made
                .wrapped("Arc<dyn>", |inner| -> Arc<dyn ComponentStorage> { Arc::from(inner) })),
        };
    assert!(report.passed.len() > 20, "only {:?} ran", report.passed);
}

fn bare(store: Engine) -> Implementation {
    match store {
        Engine::Memory => Implementation::store("memory", || open(&"memory:".parse().unwrap())),
        // Without fsync the matrix takes seconds.
        Engine::File => persistent("file", "os"),
        #[cfg(feature = "redb")]
        Engine::Redb => persistent("redb", "relaxed"),
        #[cfg(feature = "rocksdb")]
        Engine::RocksDb => persistent("rocksdb", "os"),
        Engine::RequiredMethods => bare(Engine::Memory).required_methods(),
    }
}

fn persistent(scheme: &'static str, durability: &'static str) -> Implementation {
    Implementation::persistent(scheme, move || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let url = format!("{scheme}:{}?durability={durability}", path.display());
        let url: StoreUrl = url.parse().unwrap();
        move || {
            let _keep = &directory;
            open(&url)
        }
    })
}

fn open(url: &StoreUrl) -> Arc<dyn Store> {
    url.open(Mode::ReadWrite).unwrap()
}

fn layered(bare: Implementation, layers: Layers, quota: Option<Budget>) -> Implementation {
    let cached = |inner| CachedStorage::new(inner, CacheConfig::default());
    match layers {
        Layers::Bare => bare,
        Layers::Namespaced => bare.namespaced(),
        Layers::Cached => bare.wrapped("cached", cached),
        Layers::CachedNamespaced => bare.wrapped("cached", cached).namespaced(),
        // Quota and limits see user keys.
        Layers::Quota => {
            bare.namespaced().wrapped("quota", move |inner| QuotaStorage::new(inner, quota))
        }
        Layers::Limited => bare
            .namespaced()
            .wrapped("limits", |inner| LimitedStorage::new(inner, Limits::default())),
        Layers::Created => one_component(bare).wrapped("create_component_storage", |inner| {
            create_component_storage(id(), Arc::from(inner), CacheConfig::default())
        }),
        Layers::Host | Layers::HostSharing => {
            one_component(bare).wrapped_store("host", move |inner| {
                let settings = ComponentSettings { quota, ..ComponentSettings::default() };
                let host = StorageHost::builder(Arc::from(inner)).component(id(), settings);
                let host = match layers {
                    Layers::HostSharing => host.shared_cache(CacheConfig::default()),
                    _ => host,
                };
                host.build().component(&id())
            })
        }
    }
}

fn id() -> ComponentId {
    "suite/cases/001".parse().unwrap()
}

/// The suite for storage of one component.
fn one_component(bare: Implementation) -> Implementation {
    bare.without(Feature::Components).with_max_key_bytes(storage_core::MAX_KEY_BYTES)
}
