//! A store over SQLite, as an example for authors of backends.
//!
//! Each commit is one SQL transaction, so SQLite provides atomicity and durability.
//! The usage counter of a component is a row that changes in the same transaction
//! as its keys. Unlike the built-in stores it has no checksum over each value.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Params, Row};
use storage_core::{
    Commit, CommitView, ComponentStorage, Durability, KeyPage, PageRequest, Problem, Revision,
    SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage, Verified,
    VersionedValue, Write, split_full_key, validate_full_key,
};

/// `wkv` and the version of the format: the application id of the file.
const FORMAT_1: i64 = 0x776b_7601;

const SCHEMA: &str = "
    CREATE TABLE entry (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL);
    CREATE TABLE usage (component TEXT PRIMARY KEY, bytes INTEGER NOT NULL, keys INTEGER NOT NULL);
    CREATE TABLE last (revision INTEGER NOT NULL);
    INSERT INTO last VALUES (0);
    PRAGMA application_id = 0x776b7601;";

/// A store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the store at `path`, and creates it if there is no file.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it open;
    /// [`StorageError::Unsupported`] for a database of another program or format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageError> {
        Ok(Self { connection: Mutex::new(open(path.as_ref())?) })
    }

    /// A panic rolls its transaction back, so a poisoned lock can be used.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    // The first access takes the lock, and closing the connection releases it.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let is_new = pragma("page_count")? == 0;
    if !is_new && pragma("application_id")? != FORMAT_1 {
        let what = format!("{} is not a store of format 1", path.display());
        return Err(StorageError::Unsupported(what).into());
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let create = if is_new { SCHEMA } else { "" };
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {create} COMMIT;"))?;
    Ok(connection)
}

fn apply(connection: &mut Connection, commit: &Commit) -> Result<Revision, Error> {
    let budgeted = commit.budgeted_component()?;
    let db = connection.transaction()?;
    let evaluation = commit.evaluate(&mut View(&db))?;
    for (component, change) in &evaluation.changes {
        let budget = commit.budget.as_ref().filter(|_| budgeted == Some(*component));
        let sql = "SELECT bytes, keys FROM usage WHERE component = ?1";
        let before = query_one(&db, sql, [component], |row| usage(row, 0))?.unwrap_or_default();
        let after = change.apply(before, budget)?;
        let row = (component, after.bytes, after.keys);
        db.prepare_cached("INSERT OR REPLACE INTO usage VALUES (?1, ?2, ?3)")?.execute(row)?;
    }
    // Revisions begin at the current time, so that a store restored from a copy
    // does not use those of the lost writes again.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let revision: u64 = db
        .prepare_cached("UPDATE last SET revision = max(revision + 1, ?1) RETURNING revision")?
        .query_row([i64::try_from(now).unwrap_or_default()], |row| row.get(0))?;
    for Write { key, value } in evaluation.writes {
        match value {
            Some(value) => db
                .prepare_cached("INSERT OR REPLACE INTO entry VALUES (?1, ?2, ?3)")?
                .execute((key, value.as_bytes(), revision))?,
            None => db.prepare_cached("DELETE FROM entry WHERE key = ?1")?.execute([key])?,
        };
    }
    db.commit()?;
    Ok(Revision::new(revision))
}

struct View<'a>(&'a Connection);

impl CommitView for View<'_> {
    type Error = Error;

    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, Error> {
        let sql = "SELECT value, revision FROM entry WHERE key = ?1";
        query_one(self.0, sql, [key], |row| {
            let value = row.get::<_, Vec<u8>>(0)?.into();
            Ok(VersionedValue { value, revision: Revision::new(row.get(1)?) })
        })
    }

    fn value_len(&mut self, key: &str) -> Result<Option<usize>, Error> {
        let sql = "SELECT length(value) FROM entry WHERE key = ?1";
        query_one(self.0, sql, [key], |row| row.get(0))
    }

    /// Every component has a usage counter.
    fn counts(&mut self, _component_prefix: &str) -> Result<bool, Error> {
        Ok(true)
    }
}

fn query_one<T>(
    db: &Connection,
    sql: &str,
    parameters: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    Ok(db.prepare_cached(sql)?.query_row(parameters, read).optional()?)
}

fn usage(row: &Row<'_>, column: usize) -> rusqlite::Result<Usage> {
    Ok(Usage { bytes: row.get(column)?, keys: row.get(column + 1)? })
}

/// Calls `visit` with each key that begins with `prefix` and follows `after`, and
/// the column of its row, in key order, until it returns `false`.
fn scan(
    db: &Connection,
    column: &str,
    prefix: &str,
    after: Option<&str>,
    mut visit: impl FnMut(&str, &Row<'_>) -> Result<bool, Error>,
) -> Result<(), Error> {
    // Keys have no control characters, so no key is between `after` and this start.
    let after = after.filter(|after| *after >= prefix);
    let start = after.map_or_else(|| prefix.to_owned(), |after| format!("{after}\0"));
    let sql = format!("SELECT {column}, key FROM entry WHERE key >= ?1 ORDER BY key");
    let mut query = db.prepare_cached(&sql)?;
    let mut rows = query.query([start])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(1)?;
        if !key.starts_with(prefix) || !visit(&key, row)? {
            break;
        }
    }
    Ok(())
}

fn components(db: &Connection) -> Result<BTreeMap<String, Usage>, Error> {
    let mut query = db.prepare_cached("SELECT component, bytes, keys FROM usage WHERE keys > 0")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, usage(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
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
        scan(&self.connection(), "NULL", request.prefix, request.after, |key, _| {
            keys.push(key.to_owned());
            Ok(keys.len() <= request.limit)
        })?;
        Ok(KeyPage::cut(keys, request.limit))
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        validate_full_key(key)?;
        Ok(View(&self.connection()).find(key)?)
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        commit.keys().try_for_each(validate_full_key)?;
        Ok(apply(&mut self.connection(), &commit)?)
    }
}

impl Store for SqliteStore {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("sqlite").with_format(1).with_durability(Durability::Sync)
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        let prefixes = components(&self.connection())?.into_keys();
        // Unscoped keys have the prefix "", which does not follow "".
        let prefixes = prefixes.filter(|prefix| &**prefix > after.unwrap_or_default());
        Ok(KeyPage::cut(prefixes.take(limit.saturating_add(1)).collect(), limit))
    }

    /// One query reads one state of the database. Other calls wait meanwhile.
    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        Ok(scan(&self.connection(), "value", prefix, after, |key, row| {
            visit(key, row.get::<_, Vec<u8>>(0)?.into())?;
            Ok(true)
        })?)
    }

    fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        Ok(verify(&self.connection(), report)?)
    }
}

fn verify(db: &Connection, report: &mut dyn FnMut(Problem)) -> Result<Verified, Error> {
    let mut verified = Verified::default();
    let mut recount: BTreeMap<String, Usage> = BTreeMap::new();
    scan(db, "length(value)", "", None, |key, row| {
        let (component, user_key) = split_full_key(key);
        let usage = recount.entry(component.to_owned()).or_default();
        *usage = *usage + Usage::of(user_key, row.get(0)?);
        verified.usage = verified.usage + Usage::of(key, row.get(0)?);
        Ok(true)
    })?;
    verified.components = recount.keys().filter(|prefix| !prefix.is_empty()).count() as u64;
    let integrity: Option<String> =
        query_one(db, "PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    let damage = integrity.filter(|message| message != "ok");
    let miscount = (recount != components(db)?).then(|| "wrong usage counters".to_owned());
    for detail in damage.into_iter().chain(miscount) {
        let problem = Problem::new("database", detail);
        verified.count(&problem);
        report(problem);
    }
    Ok(verified)
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Error {
    Storage(#[from] StorageError),
    Sqlite(#[from] rusqlite::Error),
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let error = match error {
            Error::Storage(error) => return error,
            Error::Sqlite(error) => error,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => Self::Locked("another process has it open".to_owned()),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { key: None, detail: error.to_string() }
            }
            _ => Self::IoError(error.to_string()),
        }
    }
}
