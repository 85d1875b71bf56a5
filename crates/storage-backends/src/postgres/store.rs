//! [`PostgresStorage`]: opening a store, and its traits.

use std::sync::Arc;

use storage_core::{
    Commit, Compacted, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, Watcher, split_full_key, validate_full_key,
};

use tokio_postgres::Row;

use super::commits;
use super::connection::{Connector, Session};
use super::error::Failure;
use super::inspection::{self, PostgresReport};
use super::notices::Notices;
use super::options::PostgresOptions;
use super::parameters::Bytes;
use super::pool::Pool;
use super::schema::FORMAT;
use super::writer::{Environment, Writer};
use super::{listing, snapshot, verify};
use crate::changes::Changes;

/// A store in a PostgreSQL database, which several hosts can use at the same time.
///
/// Each store has a schema of its own. Every method but `list_keys`, `read_snapshot` and
/// `verify` is one round trip. A commit locks the row of its component, which is also its usage
/// counter, so quotas are exact across hosts; commits to different components do not wait for
/// each other. Commits of this host that wait for one component are sent together.
///
/// Calls block their thread, inside of a tokio runtime too. Every call ends within its time
/// limits ([`PostgresOptions`]). If the reply to a commit does not arrive, the commit is
/// [`StorageError::Unavailable`] and may or may not have taken effect; it is never cancelled,
/// because PostgreSQL may report a cancelled commit as a success. Later calls connect again.
///
/// Revisions come from a sequence that all hosts share. They continue at the server's clock
/// when a store is opened, and skip ahead after a restart and a promotion of the server, so
/// none is used twice even if the server has forgotten writes.
///
/// ```no_run
/// use storage_backends::{PostgresOptions, PostgresStorage};
/// use storage_core::ComponentStorage;
///
/// let options = PostgresOptions::new("db.example", "storage", "apps").with_password("secret");
/// let storage = PostgresStorage::open(&options)?;
/// storage.set("app/notes/home/note-1", "buy milk".into())?;
/// # Ok::<(), storage_core::StorageError>(())
/// ```
#[derive(Debug)]
pub struct PostgresStorage {
    durability: Durability,
    writer: Writer,
    changes: Arc<Changes>,
    notices: Notices,
    pool: Pool,
}

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Create,
    Write,
    Read,
}

impl PostgresStorage {
    /// Opens a store for reading and writing. Creates it, and its schema, if it is missing.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if the server cannot be reached or refuses the user;
    /// [`StorageError::Unsupported`] for another format, or options that the store lacks;
    /// [`StorageError::IoError`] if the schema has other tables.
    pub fn open(options: &PostgresOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Create)
    }

    /// Opens a store for reading and writing. Creates nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`StorageError::IoError`] if there is no store.
    pub fn open_existing(options: &PostgresOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Write)
    }

    /// Opens a store for reading. Changes nothing; the server may be a standby.
    ///
    /// # Errors
    /// As [`open_existing`](Self::open_existing).
    pub fn open_read_only(options: &PostgresOptions) -> Result<Self, StorageError> {
        Self::open_for(options, Purpose::Read)
    }

    /// Whether there is a store. If there is none, [`open`](Self::open) would create it. Changes
    /// nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn exists(options: &PostgresOptions) -> Result<bool, StorageError> {
        let connector = Connector::new(options, true)?;
        let exists = connector.store_exists();
        exists.map_err(|failure| failure.into_storage_error(&connector.address))
    }

    fn open_for(options: &PostgresOptions, purpose: Purpose) -> Result<Self, StorageError> {
        let connector = Arc::new(Connector::new(options, purpose == Purpose::Read)?);
        let pool = Pool::open(connector, options, purpose == Purpose::Create)?;
        Ok(Self {
            durability: options.durability,
            writer: Writer::default(),
            changes: Arc::new(Changes::new()),
            notices: Notices::default(),
            pool,
        })
    }

    /// The store's id, chosen at random when it was created.
    pub fn store_id(&self) -> &str {
        self.pool.connector().store_id()
    }

    /// Reports the server's version, what of its settings can lose data, its latency, and the
    /// size of the store.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and [`StorageError::IoError`].
    pub fn inspect(&self) -> Result<PostgresReport, StorageError> {
        inspection::inspect(&self.pool)
    }

    fn find(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        let (prefix, user_key) = split_full_key(key);
        let found = self.pool.read(async |session| {
            let Session { client, statements, .. } = session;
            let (name, key) = (Bytes::from(prefix), Bytes::from(user_key));
            let row = client.query_opt(&statements.get, &[&name, &key, &session.token()]).await?;
            let Some(row) = row else { return Ok(None) };
            let value = StorageValue::from(row.try_get::<_, &[u8]>(0)?);
            Ok(Some(VersionedValue { value, revision: commits::revision(row.try_get(1)?) }))
        });
        found.map_err(|error| with_key(error, key))
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
impl ComponentStorage for PostgresStorage {
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
        let (prefix, user_key) = split_full_key(key);
        self.pool.read(async |session| {
            let Session { client, statements, .. } = session;
            let (name, key) = (Bytes::from(prefix), Bytes::from(user_key));
            Ok(client
                .query_opt(&statements.exists, &[&name, &key, &session.token()])
                .await?
                .is_some())
        })
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        listing::all_keys(&self.pool, prefix.unwrap_or_default())
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        listing::page(&self.pool, request)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        keys.iter().try_for_each(|key| validate_full_key(key))?;
        let (names, user_keys): (Vec<Bytes<'_>>, Vec<Bytes<'_>>) = keys
            .iter()
            .map(|key| split_full_key(key))
            .map(|(prefix, user_key)| (Bytes::from(prefix), Bytes::from(user_key)))
            .unzip();
        self.pool.read(async |session| {
            let Session { client, statements, .. } = session;
            let rows =
                client.query(&statements.get_many, &[&names, &user_keys, &session.token()]).await?;
            in_positions(&rows, keys.len(), |row| {
                Ok(Some(StorageValue::from(row.try_get::<_, &[u8]>(1)?)))
            })
        })
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        listing::usage(&self.pool, prefix.unwrap_or_default())
    }

    fn try_get(&self, _prefix: &str, _key: &str) -> Option<Option<StorageValue>> {
        // Nothing is known without asking the server.
        None
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        self.find(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        if self.pool.connector().read_only {
            return Err(StorageError::ReadOnly);
        }
        commit.keys().try_for_each(validate_full_key)?;
        commit.budgeted_component()?;
        let Self { pool, changes, notices, .. } = self;
        self.writer.commit(Environment { pool, changes, notices }, commit)
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for PostgresStorage {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("postgres")
            .with_format(FORMAT)
            .with_store_id(self.store_id())
            .with_durability(self.durability)
            .with_shared_with_other_hosts(true)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        listing::components(&self.pool, after, limit)
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        snapshot::read(&self.pool, prefix, after, visit)
    }

    fn flush(&self) -> Result<(), StorageError> {
        if self.durability == Durability::Sync || self.pool.connector().read_only {
            return Ok(());
        }
        // A durable commit makes all earlier ones durable.
        let flush = self.pool.connector().names.apply(
            "select set_config('synchronous_commit', 'on', true); \
             update @.store set flushes = flushes + 1",
        );
        let flushed = self
            .pool
            .write(async |session| Ok::<_, Failure>(session.client.batch_execute(&flush).await?));
        flushed.map_err(|failure| failure.into_storage_error(self.pool.address()))
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        verify::verify(&self.pool, report)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        Err(StorageError::Unsupported(
            "the store cannot compact PostgreSQL's tables: its autovacuum makes the space of deleted \
             values usable again, and VACUUM FULL, run by the owner of the tables while no host \
             uses them, returns it to the file system".into(),
        ))
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }
}

impl SharedStore for PostgresStorage {
    fn watch(&self, watcher: Arc<dyn Watcher>) {
        self.changes.watch(watcher);
        self.notices.listen(self.pool.connector(), &self.changes);
    }

    fn component_revisions(
        &self,
        prefixes: &[&str],
    ) -> Result<Vec<Option<Revision>>, StorageError> {
        let names: Vec<Bytes<'_>> = prefixes.iter().map(|prefix| Bytes::from(*prefix)).collect();
        self.pool.read(async |session| {
            let Session { client, statements, .. } = session;
            let rows = client.query(&statements.revisions, &[&names, &session.token()]).await?;
            in_positions(&rows, prefixes.len(), |row| {
                Ok(row.try_get::<_, Option<i64>>(1)?.map(commits::revision))
            })
        })
    }
}

/// What `read` finds in rows that begin with a position from 1 to `len`, in these positions;
/// `None` in those without a row.
fn in_positions<T: Clone>(
    rows: &[Row],
    len: usize,
    read: impl Fn(&Row) -> Result<Option<T>, Failure>,
) -> Result<Vec<Option<T>>, Failure> {
    let mut found = vec![None; len];
    for row in rows {
        let position: i64 = row.try_get(0)?;
        let at = usize::try_from(position).ok().and_then(|at| at.checked_sub(1));
        if let Some(place) = at.and_then(|at| found.get_mut(at)) {
            *place = read(row)?;
        }
    }
    Ok(found)
}
