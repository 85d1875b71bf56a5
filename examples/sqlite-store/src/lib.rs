//! A store over SQLite, as an example for authors of backends.
//!
//! Each commit, with the usage counters of its components, is one SQL transaction.
//! Unlike the built-in stores it has no checksum over each value.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row};
use storage_core::{
    Commit, CommitView, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage, Verified,
    VersionedValue, Write, split_full_key, validate_full_key,
};

/// The examples of `docs/backend-authors.md`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/backend-authors.md")]
struct BackendAuthors;

/// The application id of the file: `wkv` and the version of the format.
const FORMAT_1: i64 = 0x776b_7601;
const SCHEMA: &str = "
    CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL);
    CREATE TABLE usage (component TEXT PRIMARY KEY, bytes INTEGER NOT NULL, keys INTEGER NOT NULL);
    CREATE TABLE last (revision INTEGER NOT NULL); INSERT INTO last VALUES (0);
    PRAGMA application_id = 0x776b7601;";

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore(Mutex<Connection>);

impl SqliteStore {
    /// Opens the store at `path`, and creates it if there is no file.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it open;
    /// [`StorageError::Unsupported`] for a database of another program or format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        let path = path.as_ref();
        let foreign = format!("{} is not a store of format 1", path.display());
        let connection =
            connect(path).map_err(failed)?.ok_or(StorageError::Unsupported(foreign))?;
        Ok(Self(Mutex::new(connection)))
    }

    /// A panic rolls its transaction back, so a poisoned lock can be used.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the database; `None` if it belongs to another program.
fn connect(path: &Path) -> rusqlite::Result<Option<Connection>> {
    let db = Connection::open(path)?;
    // The first access takes the lock, and closing the connection releases it.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let is_new = pragma("page_count")? == 0;
    if !is_new && pragma("application_id")? != FORMAT_1 {
        return Ok(None);
    }
    let create = if is_new { SCHEMA } else { "" };
    let begin = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN IMMEDIATE;";
    db.execute_batch(&format!("{begin} {create} COMMIT;"))?;
    Ok(Some(db))
}

fn failed(error: rusqlite::Error) -> StorageError {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => StorageError::Locked("another process has it open".into()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StorageError::Corrupt { key: None, detail }
        }
        _ => StorageError::IoError(detail),
    }
}

fn usage(row: &Row<'_>, column: usize) -> rusqlite::Result<Usage> {
    Ok(Usage { bytes: row.get(column)?, keys: row.get(column + 1)? })
}

fn components(db: &Connection) -> Result<BTreeMap<String, Usage>, StorageError> {
    let query = db.prepare_cached("SELECT component, bytes, keys FROM usage WHERE keys > 0");
    let read = |row: &Row<'_>| Ok((row.get(0)?, usage(row, 1)?));
    query.and_then(|mut query| query.query_map([], read)?.collect()).map_err(failed)
}

/// Calls `visit` with keys and a column of their rows, in key order, until it returns `false`.
fn scan<T: FromSql>(
    db: &Connection,
    column: &str,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&str, T) -> Result<bool, StorageError>,
) -> Result<(), StorageError> {
    let range = "key >= max(?1, ?2) AND key > ?2";
    let sql = format!("SELECT key, {column} FROM entry WHERE {range} ORDER BY key");
    let mut query = db.prepare_cached(&sql).map_err(failed)?;
    let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get(1)?));
    for row in query.query_map([prefix, after.unwrap_or_default()], read).map_err(failed)? {
        let (key, column) = row.map_err(failed)?;
        if !key.starts_with(prefix) || !visit(&key, column)? {
            break;
        }
    }
    Ok(())
}

struct View<'a>(&'a Connection);

impl CommitView for View<'_> {
    type Error = StorageError;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let sql = "SELECT value, revision FROM entry WHERE key = ?1";
        let found = self.0.query_row(sql, [key], |row| {
            let value = row.get::<_, Vec<u8>>(0)?.into();
            Ok(VersionedValue { value, revision: Revision::new(row.get(1)?) })
        });
        found.optional().map_err(failed)
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, StorageError> {
        let sql = "SELECT length(value) FROM entry WHERE key = ?1";
        self.0.query_row(sql, [key], |row| row.get(0)).optional().map_err(failed)
    }
}

impl ComponentStorage for SqliteStore {
    fn get(&self, key: &str) -> Result<Option<StorageValue>, StorageError> {
        Ok(self.get_versioned(key)?.map(|found| found.value))
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        self.commit(Commit::new().set(key, value)).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.commit(Commit::new().delete(key)).map(drop)
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        Ok(self.get_versioned(key)?.is_some())
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        let request = PageRequest::new(usize::MAX).with_prefix(prefix.unwrap_or_default());
        Ok(self.list_page(request)?.keys)
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let mut keys = Vec::new();
        scan(&self.connection(), "0", request.prefix, request.after, |key, _: i64| {
            keys.push(key.to_owned());
            Ok(keys.len() <= request.limit)
        })?;
        Ok(KeyPage::cut(keys, request.limit))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        View(&self.connection()).find(key)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        let budgeted = commit.budgeted_component()?;
        let mut connection = self.connection();
        let db = connection.transaction().map_err(failed)?;
        let evaluation = commit.evaluate(&mut View(&db))?;
        for (component, change) in evaluation.changes {
            let budget = commit.budget.as_ref().filter(|_| budgeted == Some(component));
            let sql = "SELECT bytes, keys FROM usage WHERE component = ?1";
            let before = db.query_row(sql, [component], |row| usage(row, 0)).optional();
            let after = change.apply(before.map_err(failed)?.unwrap_or_default(), budget)?;
            let sql = "INSERT OR REPLACE INTO usage VALUES (?1, ?2, ?3)";
            db.execute(sql, (component, after.bytes, after.keys)).map_err(failed)?;
        }
        // Revisions begin at the current time, so that a store restored from a copy
        // does not use those of the lost writes again.
        let now: i64 = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos().try_into().unwrap_or(0));
        let sql = "UPDATE last SET revision = max(revision + 1, ?1) RETURNING revision";
        let revision: u64 = db.query_row(sql, [now], |row| row.get(0)).map_err(failed)?;
        for Write { key, value } in evaluation.writes {
            let set = "INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)";
            let done = match value {
                Some(value) => db.execute(set, (key, value.as_bytes(), revision)),
                None => db.execute("DELETE FROM entry WHERE key = ?1", [key]),
            };
            done.map_err(failed)?;
        }
        db.commit().map_err(failed)?;
        Ok(Revision::new(revision))
    }
}

impl Store for SqliteStore {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("sqlite").with_format(1).with_durability(Durability::Sync)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        // Unscoped keys have the prefix "", which does not follow "".
        let follows = |prefix: &String| **prefix > *after.unwrap_or_default();
        let prefixes = components(&self.connection())?.into_keys().filter(follows);
        Ok(KeyPage::cut(prefixes, limit))
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        // One query reads one state of the database. Other calls wait meanwhile.
        scan(&self.connection(), "value", prefix, after, |key, value: Vec<u8>| {
            visit(key, value.into()).map(|()| true)
        })
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        let db = self.connection();
        let mut verified = Verified::default();
        let mut recount: BTreeMap<String, Usage> = BTreeMap::new();
        scan(&db, "length(value)", "", None, |key, len| {
            let (component, user_key) = split_full_key(key);
            let usage = recount.entry(component.to_owned()).or_default();
            *usage = *usage + Usage::of(user_key, len);
            verified.usage = verified.usage + Usage::of(key, len);
            Ok(true)
        })?;
        verified.components = recount.keys().filter(|prefix| !prefix.is_empty()).count() as u64;
        let integrity = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        let damage = Some(integrity.map_err(failed)?).filter(|message: &String| message != "ok");
        let miscount = (recount != components(&db)?).then(|| "wrong usage counters".to_owned());
        for problem in damage.into_iter().chain(miscount).map(|what| Problem::new("database", what))
        {
            verified.count(&problem);
            report(problem);
        }
        Ok(verified)
    }
}
