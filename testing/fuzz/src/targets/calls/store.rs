//! The chains under test, and their store.

use std::path::PathBuf;
use std::sync::Arc;

use storage_backends::{
    Durability, FileOptions, FileStorage, MemoryStorage, RedbOptions, RedbStorage,
};
use storage_core::{
    Compacted, ComponentId, ComponentStorage, KeyPage, Problem, SharedStore, SnapshotVisitor,
    StorageError, StoreProperties, Verified, forward_storage,
};
use storage_host::{
    Access, CacheConfig, ComponentChain, ComponentSettings, Grant, GrantedStorage, StorageHost,
};
use tempfile::TempDir;

/// One id begins with another one, and two differ only in case.
pub(super) const COMPONENTS: [&str; 3] = ["app/notes/001", "app/notes/0011", "app/Notes/001"];

pub(super) fn component_prefix(id: &str) -> &'static str {
    match id {
        "app/notes/001" => "app/notes/001/",
        "app/notes/0011" => "app/notes/0011/",
        _ => "app/Notes/001/",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Memory,
    File,
    Redb,
}

/// The memory store with the property of a store on disk, so that a host puts its cache in
/// front of it.
#[derive(Debug)]
struct Cacheable(MemoryStorage);

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for Cacheable {
    forward_storage!(self => self.0);
}

#[deny(clippy::missing_trait_methods)]
impl storage_core::Store for Cacheable {
    fn properties(&self) -> StoreProperties {
        self.0.properties().with_may_block(true)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        self.0.list_components(after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        self.0.read_snapshot(prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.0.flush()
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        self.0.compact()
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        self.0.verify(report)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        self.0.shared()
    }
}

pub(super) struct Store {
    engine: Engine,
    settings: ComponentSettings,
    cache: CacheConfig,
    shares_cache: bool,
    small_index: bool,
    /// `None` only while the store is reopened.
    open: Option<Open>,
    // Dropped after the store in it.
    directory: Option<TempDir>,
}

struct Open {
    chains: [Arc<ComponentChain>; COMPONENTS.len()],
    host: StorageHost,
}

impl Store {
    pub(super) fn new(
        engine: Engine,
        settings: ComponentSettings,
        cache: CacheConfig,
        shares_cache: bool,
        small_index: bool,
    ) -> Self {
        let directory = (engine != Engine::Memory).then(crate::temporary_directory);
        let mut store =
            Self { engine, settings, cache, shares_cache, small_index, open: None, directory };
        let backend: Arc<dyn storage_core::Store> = match engine {
            Engine::Memory if store.cache.max_entries > 0 => {
                Arc::new(Cacheable(MemoryStorage::new()))
            }
            Engine::Memory => Arc::new(MemoryStorage::new()),
            _ => store.backend_on_disk(),
        };
        store.open = Some(store.chains(backend));
        store
    }

    fn path(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join("store")
    }

    fn file_options(&self) -> FileOptions {
        FileOptions::default().with_index_budget_bytes(if self.small_index { 0 } else { 1 << 20 })
    }

    fn backend_on_disk(&self) -> Arc<dyn storage_core::Store> {
        if self.engine == Engine::File {
            return Arc::new(FileStorage::open(self.path(), self.file_options()).unwrap());
        }
        let options =
            RedbOptions::default().with_durability(Durability::Relaxed).with_cache_bytes(1 << 20);
        Arc::new(RedbStorage::open(self.path(), options).unwrap())
    }

    fn chains(&self, backend: Arc<dyn storage_core::Store>) -> Open {
        let builder = StorageHost::builder(backend).defaults(self.settings.clone());
        let host = match self.shares_cache {
            true => builder.shared_cache(self.cache.clone()),
            false => builder.cache(self.cache.clone()),
        }
        .build();
        let chains = COMPONENTS.map(|id| host.component(&id.parse().unwrap()));
        Open { chains, host }
    }

    fn opened(&self) -> &Open {
        self.open.as_ref().unwrap()
    }

    pub(super) fn chain(&self, of: usize) -> &ComponentChain {
        &self.opened().chains[of]
    }

    pub(super) fn backend(&self) -> &dyn storage_core::Store {
        &**self.opened().host.store()
    }

    /// The keys of the second component that a grant gives to the first.
    pub(super) fn granted(&self, prefix: &str, access: Access) -> GrantedStorage {
        let [to, owner, _] = COMPONENTS.map(|id| id.parse::<ComponentId>().unwrap());
        let host = &self.opened().host;
        for grant in host.grants(&to) {
            host.revoke(&to, &owner, &grant.prefix);
        }
        let prefix = prefix.to_owned();
        host.grant(&to, Grant { owner: owner.clone(), prefix, access });
        host.granted(&to, &owner).unwrap()
    }

    /// Closes the store and opens it again.
    pub(super) fn reopen(&mut self) {
        let open = self.open.take().unwrap();
        let backend = match self.engine {
            Engine::Memory => Arc::clone(open.host.store()),
            _ => {
                drop(open);
                self.backend_on_disk()
            }
        };
        self.open = Some(self.chains(backend));
    }

    /// All keys as a concurrent reader sees them, if the engine permits one.
    pub(super) fn keys_for_a_reader(&self) -> Option<Vec<String>> {
        let reads = self.engine == Engine::File;
        reads.then(|| {
            let reader = FileStorage::open_read_only(self.path(), self.file_options()).unwrap();
            reader.list_keys(None).unwrap()
        })
    }

    /// Closes and verifies the store.
    pub(super) fn end(mut self) {
        let keys = self.backend().list_keys(None).unwrap().len() as u64;
        self.open = None;
        let report = &mut |problem| panic!("{problem}");
        let verified = match self.engine {
            Engine::Memory => return,
            Engine::File => FileStorage::verify(self.path(), report),
            Engine::Redb => RedbStorage::verify(self.path(), report),
        };
        assert_eq!(verified.unwrap().usage.keys, keys);
    }
}
