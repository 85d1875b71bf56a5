//! Opens databases.
//!
//! A store is first opened for reading, which changes nothing, so that another format or
//! damage is found before RocksDB changes files.

use std::path::Path;
use std::thread;
use std::time::Duration;

use ::rocksdb::{DB, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions, Options};
use storage_core::{Durability, StorageError};

use super::close_marker::Manifest;
use super::database::Database;
use super::error;
use super::layout::{Found, Layout};
use super::meta::{self, Meta};
use super::options::{
    Access, COLUMN_FAMILIES, EngineOptions, META, Recovery, RocksDbOptions, USAGE_COUNTERS,
};
use crate::lock::{WRITER_FILE, WriterLock};
use crate::{disk, identity};

/// How often an opening for reading is retried because a writer changed the manifest, and
/// how much longer it waits before each retry.
const TRIES: u32 = 50;
const LONGER_EACH_TRY: Duration = Duration::from_millis(2);

pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) meta: Meta,
}

/// Opens a store for writing. Creates it if there is none.
pub(super) fn open(
    layout: &Layout,
    options: &RocksDbOptions,
) -> Result<(Opened, WriterLock), StorageError> {
    let root = &layout.root;
    match layout.inspect()? {
        Found::Foreign => return Err(identity::foreign_directory(root)),
        // Check before the lock file is added to a database of another program.
        Found::Database { ours: false } => drop(open_to_read(layout, options)?),
        Found::Nothing | Found::Incomplete | Found::Database { ours: true } => {}
    }
    disk::create_store_directory(root)?;
    let lock = WriterLock::take(root, WRITER_FILE)?;
    // Another process may have created it before it released the lock.
    if matches!(layout.inspect()?, Found::Database { .. }) {
        drop(open_to_read(layout, options)?);
    } else {
        create(layout)?;
    }
    // The process that created the store may have been killed before this.
    disk::sync_parent(root)?;
    let recovery = recovery(layout)?;
    let unsynced = options.durability == Durability::Os;
    if unsynced {
        layout.set_unsynced(true)?;
    }
    let db = open_database(root, options, Access::Write, recovery)?;
    if !unsynced {
        // The opening has moved the log of earlier writers to files.
        layout.set_unsynced(false)?;
    }
    let meta = meta::read(&db, root)?;
    Ok((Opened { database: Database::new(db, root.clone()), meta }, lock))
}

/// Creates a store in a directory without one.
fn create(layout: &Layout) -> Result<(), StorageError> {
    layout.begin_creation()?;
    layout.clear_incomplete()?;
    let options = RocksDbOptions::default();
    let db = open_database(&layout.root, &options, Access::Create, Recovery::SyncedLog)?;
    meta::create(&db, &layout.root)?;
    drop(db);
    layout.finish_creation()
}

/// How to read the log. Depends on how its writer made it durable.
fn recovery(layout: &Layout) -> Result<Recovery, StorageError> {
    Ok(if layout.is_unsynced()? { Recovery::UnsyncedLog } else { Recovery::SyncedLog })
}

fn open_database(
    root: &Path,
    options: &RocksDbOptions,
    access: Access,
    recovery: Recovery,
) -> Result<DB, StorageError> {
    let EngineOptions { options, families } = options.engine(&COLUMN_FAMILIES, access, recovery);
    DB::open_cf_descriptors(&options, root, families).map_err(|source| cannot_open(root, &source))
}

/// Opens a copy that no other process knows.
pub(super) fn open_copy(root: &Path, options: &RocksDbOptions) -> Result<DB, StorageError> {
    // A checkpoint cuts the log of the original at any offset.
    open_database(root, options, Access::Write, Recovery::UnsyncedLog)
}

/// Writes what is in memory to files, so that the log is not needed.
pub(super) fn flush_memory(db: &DB) -> Result<(), ::rocksdb::Error> {
    let families: Vec<_> = COLUMN_FAMILIES.iter().filter_map(|name| db.cf_handle(name)).collect();
    let mut options = FlushOptions::default();
    options.set_wait(true);
    db.flush_cfs_opt(&families, &options)
}

/// Opens a store for reading, at one point in time, while others write. Changes nothing.
pub(super) fn open_to_read(
    layout: &Layout,
    options: &RocksDbOptions,
) -> Result<Opened, StorageError> {
    let root = &layout.root;
    match layout.inspect()? {
        Found::Database { .. } => {}
        found => {
            let what = match found {
                Found::Nothing if !disk::exists(root)? => "does not exist",
                _ => "is not a store",
            };
            return Err(identity::no_store(root, what));
        }
    }
    let inspect = || Manifest::of(layout);
    open_unchanged(root, inspect, |manifest| open_once(layout, options, manifest))
}

/// Retries `open` until `inspect` returns the same before and after it. Then nothing was
/// missed: a writer that moves writes from the log to a file adds that file to the
/// manifest before it removes the log.
fn open_unchanged<L: PartialEq, T>(
    root: &Path,
    inspect: impl Fn() -> Result<L, StorageError>,
    open: impl Fn(&L) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let mut failed = None;
    for try_number in 0..TRIES {
        thread::sleep(LONGER_EACH_TRY * try_number);
        let before = inspect()?;
        let result = open(&before);
        if inspect()? == before {
            return result;
        }
        failed = result.err();
    }
    Err(StorageError::Unavailable {
        key: None,
        detail: format!(
            "the writer of {} changes its files faster than they can be opened; try again{}",
            root.display(),
            failed.map(|error| format!(" ({error})")).unwrap_or_default()
        ),
    })
}

fn open_once(
    layout: &Layout,
    options: &RocksDbOptions,
    manifest: &Manifest,
) -> Result<Opened, StorageError> {
    let root = &layout.root;
    manifest.check(layout)?;
    let names =
        DB::list_cf(&Options::default(), root).map_err(|source| cannot_open(root, &source))?;
    let has = |name: &str| names.iter().any(|one| one == name);
    if !has(META) {
        return Err(StorageError::IoError(format!(
            "{} is a RocksDB database of another program, not a store",
            root.display()
        )));
    }
    // Another format may have other families.
    let known: Vec<&str> = COLUMN_FAMILIES.into_iter().filter(|name| has(name)).collect();
    let EngineOptions { options, families } =
        options.engine(&known, Access::Read, recovery(layout)?);
    let db = DB::open_cf_descriptors_read_only(&options, root, families, false)
        .map_err(|source| cannot_open(root, &source))?;
    let meta = meta::read(&db, root)?;
    let complete = has(DEFAULT_COLUMN_FAMILY_NAME) && has(USAGE_COUNTERS);
    if !complete || names.len() != COLUMN_FAMILIES.len() {
        return Err(error::corrupt(root, None, "its column families are not those of a store"));
    }
    Ok(Opened { database: Database::new(db, root.clone()), meta })
}

/// The error of opening a database that exists.
fn cannot_open(root: &Path, source: &::rocksdb::Error) -> StorageError {
    if error::names_a_missing_file(source) {
        return error::corrupt(root, None, source.as_ref());
    }
    if source.kind() == ::rocksdb::ErrorKind::Corruption {
        return error::corrupt(root, None, &format!("RocksDB cannot open it: {source}"));
    }
    error::failed("open", root, source)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Opens an object whose state changes at each of these inspections.
    fn opened(
        changes_at: &[u32],
        open: impl Fn(u32) -> Result<u32, StorageError>,
    ) -> Result<u32, StorageError> {
        let (inspections, state) = (Cell::new(0), Cell::new(0));
        let inspect = || {
            inspections.set(inspections.get() + 1);
            if changes_at.contains(&inspections.get()) {
                state.set(state.get() + 1);
            }
            Ok(state.get())
        };
        open_unchanged(Path::new("store"), inspect, |seen| open(*seen))
    }

    #[test]
    fn an_opening_is_retried_when_files_changed_during_it() {
        assert_eq!(opened(&[], Ok), Ok(0));
        // Before and after the first try.
        assert_eq!(opened(&[2], Ok), Ok(1));
        assert_eq!(opened(&[1, 2, 3, 4], Ok), Ok(4));
        // A change between two tries does not matter.
        assert_eq!(opened(&[1], Ok), Ok(1));
    }

    #[test]
    fn an_error_is_returned_only_if_nothing_changed() {
        let missing = |seen| {
            if seen == 0 { Err(StorageError::IoError("gone".into())) } else { Ok(seen) }
        };
        assert_eq!(opened(&[2], missing), Ok(1));
        assert_eq!(opened(&[], missing), Err(StorageError::IoError("gone".into())));
        let all: Vec<u32> = (0..=2 * TRIES).collect();
        match opened(&all, |_| Err(StorageError::IoError("gone".into()))) {
            Err(StorageError::Unavailable { detail, .. }) => {
                assert!(detail.contains("gone"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
    }
}
