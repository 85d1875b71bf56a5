//! The chains under test, and the store below them.

use std::path::PathBuf;
use std::sync::Arc;

use storage_backends::{
    Durability, FileOptions, FileStorage, MemoryStorage, RedbOptions, RedbStorage,
};
use storage_core::{ComponentId, ComponentStorage};
use storage_host::{
    Access, CacheConfig, ComponentChain, ComponentSettings, Grant, GrantedStorage, StorageHost,
};
use tempfile::TempDir;

/// The components: one's id begins with another's, and two differ in case alone.
pub(super) const COMPONENTS: [&str; 3] = ["app/notes/001", "app/notes/0011", "app/Notes/001"];

/// A component's partition.
pub(super) fn partition(id: &str) -> &'static str {
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

pub(super) struct Store {
    engine: Engine,
    settings: ComponentSettings,
    cache: CacheConfig,
    shares_cache: bool,
    small_index: bool,
    /// `None` for a moment, while the store is opened anew.
    open: Option<Open>,
    // Behind what lies in it.
    folder: Option<TempDir>,
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
        let folder = (engine != Engine::Memory).then(|| tempfile::tempdir().unwrap());
        let mut store =
            Self { engine, settings, cache, shares_cache, small_index, open: None, folder };
        let backend: Arc<dyn storage_core::Store> = match engine {
            Engine::Memory => Arc::new(MemoryStorage::new()),
            _ => store.backend_on_disk(),
        };
        store.open = Some(store.chains(backend));
        store
    }

    fn path(&self) -> PathBuf {
        self.folder.as_ref().unwrap().path().join("store")
    }

    fn file_options(&self) -> FileOptions {
        FileOptions::default().with_index_budget_bytes(if self.small_index { 0 } else { 1 << 20 })
    }

    fn backend_on_disk(&self) -> Arc<dyn storage_core::Store> {
        if self.engine == Engine::File {
            return Arc::new(FileStorage::open(self.path(), self.file_options()).unwrap());
        }
        let options =
            RedbOptions::default().with_durability(Durability::Interval).with_cache_bytes(1 << 20);
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

    /// What the first component may do with keys of the second, by one grant.
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

    /// Ends everything and begins anew on the same data.
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

    /// All keys as who only reads sees them beside the writer, where one can.
    pub(super) fn keys_for_a_reader(&self) -> Option<Vec<String>> {
        let reads = self.engine == Engine::File;
        reads.then(|| {
            let reader = FileStorage::open_read_only(self.path(), self.file_options()).unwrap();
            reader.list_keys(None).unwrap()
        })
    }

    /// Closes the store, in which nothing must be wrong.
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
