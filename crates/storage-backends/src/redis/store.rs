//! [`RedisStorage`]: opening a store, and its traits.

use std::sync::Arc;

use storage_core::{
    Commit, Compacted, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, Watcher, validate_full_key,
};

use super::commits::Commits;
use super::database::{Database, command};
use super::inspection::{self, RedisReport};
use super::notices::Notices;
use super::opening::{self, FORMAT, Purpose};
use super::options::RedisOptions;
use super::{flush, listing, reads, replies, snapshot, values, verify};
use crate::changes::Changes;

/// A store on Redis or Valkey servers, which several hosts can use at the same time.
///
/// The data is in the memory of the servers. Each store has a prefix of its own, which all of
/// its keys begin with. A read or a commit is one round trip; a commit is one script, so checks,
/// quotas and revisions are exact across hosts. The servers need Redis 6.2 or Valkey.
///
/// # Durability
///
/// What a server writes to disk is up to its settings: [`StoreProperties::durability`] is
/// [`Durability::Sync`] only with an append-only file and `appendfsync always`,
/// [`Durability::Relaxed`] with `everysec` (a power cut loses the last second or two, and so may
/// a kill of the server while its disk is slow), [`Durability::Os`] with `no`, and `None` without
/// an append-only file. Replication is asynchronous: **a failover can lose writes that were
/// acknowledged**, whatever the settings. [`RedisOptions::wait`] makes it unlikely, and the
/// server's `min-replicas-to-write` limits how much is lost.
///
/// # Deployments
///
/// On one server, or behind sentinels, the whole contract holds. On a cluster components are
/// spread over 256 shards by their prefix. There a commit to components of several shards, and a
/// snapshot of several components, are [`StorageError::Unsupported`], and revisions are ordered
/// within each component only.
///
/// Every server must have the `maxmemory-policy` `noeviction` if it has a limit. When its memory
/// is full, a commit that sets a key fails with [`StorageError::Unavailable`]; one that only
/// deletes works.
///
/// Calls block their thread and end within their time limits ([`RedisOptions`]). If the reply to
/// a commit does not arrive, the commit is [`StorageError::Unavailable`] and may or may not have
/// taken effect; it is never sent again.
///
/// ```no_run
/// use storage_backends::{Deployment, RedisAddress, RedisOptions, RedisStorage};
/// use storage_core::ComponentStorage;
///
/// let server = RedisAddress::new("redis.example", RedisAddress::DEFAULT_PORT);
/// let options = RedisOptions::new(Deployment::Single(server)).with_password("secret");
/// let storage = RedisStorage::open(&options)?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug)]
pub struct RedisStorage {
    durability: Option<Durability>,
    options: RedisOptions,
    changes: Arc<Changes>,
    notices: Notices,
    commits: Commits,
    database: Database,
}

impl RedisStorage {
    /// Opens a store for reading and writing. Creates it if it is missing.
    ///
    /// ```no_run
    /// use storage_backends::{Deployment, RedisAddress, RedisOptions, RedisStorage, TlsMode};
    ///
    /// let nodes = ["a.example", "b.example"].map(|host| RedisAddress::new(host, 6379));
    /// let options = RedisOptions::new(Deployment::Cluster(nodes.into()))
    ///     .with_prefix("notes")
    ///     .with_tls(TlsMode::VerifyFull);
    /// let storage = RedisStorage::open(&options)?;
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if a server cannot be reached or refuses the user, or has
    /// only a part of the store; [`StorageError::Unsupported`] for another format, or a server
    /// that removes keys when its memory is full; [`StorageError::IoError`] if the prefix is used
    /// by other keys.
    pub fn open(options: &RedisOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Create)
    }

    /// Opens a store for reading and writing. Creates nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StorageError::IoError`] if there is no store.
    pub fn open_existing(options: &RedisOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Write)
    }

    /// Opens a store for reading. Changes nothing. Snapshots and verifying, though, note on the
    /// servers that they are being read, so they need a user who may write.
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing).
    pub fn open_read_only(options: &RedisOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Read)
    }

    /// Whether there is a store. If there is none, [`open`](Self::open) would create it. Changes
    /// nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn exists(options: &RedisOptions) -> Result<bool, StorageError> {
        opening::exists(options)
    }

    fn open_for(options: &RedisOptions, purpose: Purpose) -> Result<Self, StorageError> {
        let (database, durability) = opening::open(options, purpose)?;
        let commits = Commits::new(&database)?;
        Ok(Self {
            durability,
            options: options.clone(),
            changes: Arc::new(Changes::new()),
            notices: Notices::default(),
            commits,
            database,
        })
    }

    /// The store's id, chosen at random when it was created.
    pub fn store_id(&self) -> &str {
        &self.database.store_id
    }

    /// Reports the version of the servers, what of their settings can lose data, their latency
    /// and their memory.
    ///
    /// ```no_run
    /// # use storage_backends::{Deployment, RedisAddress, RedisOptions, RedisStorage};
    /// # let server = RedisAddress::new("redis.example", RedisAddress::DEFAULT_PORT);
    /// # let storage = RedisStorage::open(&RedisOptions::new(Deployment::Single(server)))?;
    /// for warning in storage.inspect()?.warnings {
    ///     println!("{}: {}", warning.code, warning.text);
    /// }
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and [`StorageError::IoError`].
    pub fn inspect(&self) -> Result<RedisReport, StorageError> {
        inspection::inspect(&self.database, &self.options)
    }

    /// As [`inspect`](Self::inspect), for servers that may have no store yet. Changes nothing.
    ///
    /// ```no_run
    /// # use storage_backends::{Deployment, RedisAddress, RedisOptions, RedisStorage};
    /// # let server = RedisAddress::new("redis.example", RedisAddress::DEFAULT_PORT);
    /// # let options = RedisOptions::new(Deployment::Single(server));
    /// let report = RedisStorage::inspect_servers(&options)?;
    /// if !report.warnings.iter().any(|warning| warning.refuses_writes) {
    ///     RedisStorage::open(&options)?;
    /// }
    /// # Ok::<(), storage_core::StorageError>(())
    /// ```
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect), and those of the options and the connections.
    pub fn inspect_servers(options: &RedisOptions) -> Result<RedisReport, StorageError> {
        inspection::inspect(&opening::without_store(options)?, options)
    }

    fn find(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        let shard = self.database.shard_of_key(key);
        let get = command("GET", [self.database.keys.value(shard, key)]);
        let found = self.database.read(shard, get).and_then(replies::bytes);
        let found = found.map_err(|error| with_key(error, key))?;
        found.map(|stored| values::decode(key, &stored)).transpose()
    }
}

/// Names the key whose value is damaged.
fn with_key(error: StorageError, key: &str) -> StorageError {
    match error {
        StorageError::Corrupt { key: None, detail } => {
            StorageError::Corrupt { key: Some(key.to_owned()), detail }
        }
        other => other,
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for RedisStorage {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.find(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        validate_full_key(key)?;
        let shard = self.database.shard_of_key(key);
        let exists = command("EXISTS", [self.database.keys.value(shard, key)]);
        Ok(replies::integer(self.database.read(shard, exists)?)? > 0)
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        listing::all_keys(&self.database, prefix.unwrap_or_default())
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        listing::page(&self.database, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_full_key(key))?;
        reads::values(&self.database, keys)
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        listing::usage(&self.database, prefix.unwrap_or_default())
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // Nothing is known without asking a server.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.find(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        self.commits.apply(&self.database, &self.changes, &commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for RedisStorage {
    fn properties(&self) -> StoreProperties {
        let properties = StoreProperties::new("redis")
            .with_format(FORMAT)
            .with_store_id(self.store_id())
            .with_shared_with_other_hosts(true)
            .with_failover_can_lose_writes(true);
        match self.durability {
            Some(durability) => properties.with_durability(durability),
            None => properties,
        }
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        listing::components(&self.database, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        snapshot::read(&self.database, prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        match self.database.read_only {
            true => Ok(()),
            false => flush::flush(&self.database, self.durability),
        }
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        verify::verify(&self.database, report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(StorageError::Unsupported(
            "the store cannot compact the memory of Redis, which uses the space of deleted values \
             again; activedefrag or MEMORY PURGE returns it to the system, and BGREWRITEAOF makes \
             the append-only file smaller"
                .to_owned(),
        ))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl SharedStore for RedisStorage {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.changes.watch(watcher);
        self.notices.listen(&self.database.client, &self.changes, self.database.check());
    }

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        reads::revisions(&self.database, prefixes)
    }

    fn check_identity(&self) -> Result<(), StorageError> {
        reads::check_identity(&self.database)
    }
}
