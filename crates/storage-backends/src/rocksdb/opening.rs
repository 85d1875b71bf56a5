//! Opening the database.
//!
//! A store is first opened for reading, which changes nothing, so that another
//! format or damage is found before RocksDB tidies up.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ::rocksdb::{DB, DEFAULT_COLUMN_FAMILY_NAME, Options, properties};
use storage_core::StorageError;

use super::layout::{Found, Layout};
use super::log::{self, LogFile};
use super::meta::{self, Meta};
use super::options::{Access, COLUMN_FAMILIES, Engine, LEDGERS, META, RocksDbOptions};
use super::seal::{self, ListOfFiles};
use super::{errors, log::Verdict};
use crate::lock::{WRITER_FILE, WriterLock};
use crate::{disk, identity};
use storage_core::Durability;

/// How often a reader begins again because a writer has changed the list of
/// files meanwhile, and how much longer it waits each time.
const TRIES: u32 = 50;
const LONGER_EACH_TRY: Duration = Duration::from_millis(2);

/// A database that is open.
pub(super) struct Opened {
    pub(super) db: DB,
    pub(super) meta: Meta,
}

/// Opens a store for writing; makes it if there is none.
pub(super) fn open(
    layout: &Layout,
    options: &RocksDbOptions,
) -> Result<(Opened, WriterLock), StorageError> {
    let root = &layout.root;
    match layout.look()? {
        Found::Foreign => {
            return Err(identity::foreign_folder(root));
        }
        // Before anything is changed in a database that may be somebody else's.
        Found::Database { ours: false } => drop(open_to_read(layout, options)?),
        Found::Nothing | Found::Begun | Found::Database { ours: true } => {}
    }
    disk::create_store_folder(root)?;
    let lock = WriterLock::take(root, WRITER_FILE)?;
    // Whoever had the lock before may have made or finished it.
    if matches!(layout.look()?, Found::Database { .. }) {
        drop(open_to_read(layout, options)?);
    } else {
        create(layout)?;
    }
    // Whoever made the store may have been killed before this.
    disk::sync_parent(root)?;
    let unsynced = options.durability == Durability::Os;
    if unsynced {
        layout.set_unsynced(true)?;
    }
    let db = open_database(root, options, Access::Write)?;
    if !unsynced {
        // What earlier writers left in the log is in files now.
        layout.set_unsynced(false)?;
    }
    let meta = meta::read(&db, root)?;
    Ok((Opened { db, meta }, lock))
}

/// Makes a store in a folder that holds none.
fn create(layout: &Layout) -> Result<(), StorageError> {
    layout.begin()?;
    layout.clear_begun()?;
    let db = open_database(&layout.root, &RocksDbOptions::default(), Access::Create)?;
    meta::create(&db, &layout.root)?;
    drop(db);
    layout.finish()
}

fn open_database(
    root: &Path,
    options: &RocksDbOptions,
    access: Access,
) -> Result<DB, StorageError> {
    let Engine { options, families } = options.engine(&COLUMN_FAMILIES, access);
    DB::open_cf_descriptors(&options, root, families).map_err(|error| cannot_open(root, &error))
}

/// Opens a copy that nobody else knows of.
pub(super) fn open_copy(root: &Path, options: &RocksDbOptions) -> Result<DB, StorageError> {
    open_database(root, options, Access::Write)
}

/// Opens a store for reading, as it is at one moment, beside whoever writes it.
/// Changes nothing.
pub(super) fn open_to_read(
    layout: &Layout,
    options: &RocksDbOptions,
) -> Result<Opened, StorageError> {
    let root = &layout.root;
    match layout.look()? {
        Found::Database { .. } => {}
        found => {
            let what = match found {
                Found::Nothing if !disk::is_there(root)? => "does not exist",
                _ => "is no store",
            };
            return Err(identity::no_store(root, what));
        }
    }
    while_still(root, || Manifest::of(root), |manifest| open_once(layout, options, manifest))
}

/// Opens something when what `look` sees is the same before and after; so
/// nothing was missed: a writer that has taken something from the log says so in
/// the manifest before it removes the log.
fn while_still<L: PartialEq, T>(
    root: &Path,
    look: impl Fn() -> Result<L, StorageError>,
    open: impl Fn(&L) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let mut failed = None;
    for try_number in 0..TRIES {
        thread::sleep(LONGER_EACH_TRY * try_number);
        let before = look()?;
        let result = open(&before);
        if look()? == before {
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
    let logs = if layout.is_unsynced()? { Vec::new() } else { log::read_all(root)? };
    let names =
        DB::list_cf(&Options::default(), root).map_err(|error| cannot_open(root, &error))?;
    let has = |name: &str| names.iter().any(|one| one == name);
    if !has(META) {
        return Err(StorageError::IoError(format!(
            "{} is a RocksDB database of another program, not a store",
            root.display()
        )));
    }
    // Another format may have others.
    let known: Vec<&str> = COLUMN_FAMILIES.into_iter().filter(|name| has(name)).collect();
    let Engine { options, families } = options.engine(&known, Access::Read);
    let db = DB::open_cf_descriptors_read_only(&options, root, families, false)
        .map_err(|error| cannot_open(root, &error))?;
    let meta = meta::read(&db, root)?;
    if !has(DEFAULT_COLUMN_FAMILY_NAME) || !has(LEDGERS) || names.len() != COLUMN_FAMILIES.len() {
        return Err(errors::corrupt(root, None, "its column families are not those of a store"));
    }
    refuse_damaged_logs(root, &db, &logs)?;
    Ok(Opened { db, meta })
}

/// Refuses a database whose log RocksDB would read up to damage and no further.
fn refuse_damaged_logs(root: &Path, db: &DB, logs: &[LogFile]) -> Result<(), StorageError> {
    // Older ones are waiting to be removed.
    let first_needed = db
        .property_int_value(properties::MIN_LOG_NUMBER_TO_KEEP)
        .map_err(|error| errors::failed("open", root, &error))?
        .unwrap_or_default();
    match log::first_damaged(logs.iter().filter(|log| log.number >= first_needed)) {
        None => Ok(()),
        Some((path, offset)) => Err(errors::corrupt(
            root,
            None,
            &format!("the log {} is damaged at byte {offset}", path.display()),
        )),
    }
}

/// What says which files a database has.
#[derive(Debug, PartialEq, Eq)]
struct Manifest {
    name: Vec<u8>,
    len: Option<u64>,
}

impl Manifest {
    fn of(root: &Path) -> Result<Self, StorageError> {
        let current = root.join("CURRENT");
        let name = match fs::read(&current) {
            Ok(name) => name,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(disk::failed("read", &current, &error)),
        };
        let len = match manifest_named_in(&name) {
            Some(name) => disk::file_len(&root.join(name))?,
            None => None,
        };
        Ok(Self { name, len })
    }

    /// Refuses one that RocksDB would read up to damage and no further.
    fn check(&self, layout: &Layout) -> Result<(), StorageError> {
        let root = &layout.root;
        let Some(name) = manifest_named_in(&self.name) else {
            return Err(errors::corrupt(root, None, "its file CURRENT names no manifest"));
        };
        let path = root.join(name);
        let Some(bytes) = disk::read(&path)? else {
            return Err(errors::corrupt(root, None, &format!("its file {name} is missing")));
        };
        if let Verdict::Damaged { offset } = log::judge(&bytes, log::Kind::Manifest) {
            return Err(errors::corrupt(
                root,
                None,
                &format!("its file {name} is damaged at byte {offset}"),
            ));
        }
        seal::check(layout, &ListOfFiles { name: name.to_owned(), len: bytes.len() as u64 })
    }
}

/// Writes down that a store which nobody has open was closed in order.
pub(super) fn seal_closed(layout: &Layout) -> Result<(), StorageError> {
    let Manifest { name, len } = Manifest::of(&layout.root)?;
    match (manifest_named_in(&name), len) {
        (Some(name), Some(len)) => seal::put(layout, &ListOfFiles { name: name.to_owned(), len }),
        // Nothing that could be opened again.
        _ => Ok(()),
    }
}

/// The file that `CURRENT` names; never one elsewhere.
fn manifest_named_in(current: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(current).ok()?.strip_suffix('\n')?;
    let number = name.strip_prefix("MANIFEST-")?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// An error of opening what is known to be a database.
fn cannot_open(root: &Path, error: &::rocksdb::Error) -> StorageError {
    if errors::names_a_missing_file(error) {
        return errors::corrupt(root, None, error.as_ref());
    }
    errors::failed("open", root, error)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Opens something of which the state changes at each of these looks.
    fn opened(
        changes_at: &[u32],
        open: impl Fn(u32) -> Result<u32, StorageError>,
    ) -> Result<u32, StorageError> {
        let (looks, state) = (Cell::new(0), Cell::new(0));
        let look = || {
            looks.set(looks.get() + 1);
            if changes_at.contains(&looks.get()) {
                state.set(state.get() + 1);
            }
            Ok(state.get())
        };
        while_still(Path::new("store"), look, |seen| open(*seen))
    }

    #[test]
    fn what_was_opened_while_files_changed_is_opened_anew() {
        assert_eq!(opened(&[], Ok), Ok(0));
        // Before and after the first try.
        assert_eq!(opened(&[2], Ok), Ok(1));
        assert_eq!(opened(&[1, 2, 3, 4], Ok), Ok(4));
        // Between two tries nothing is missed.
        assert_eq!(opened(&[1], Ok), Ok(1));
    }

    #[test]
    fn an_error_counts_only_if_nothing_changed_meanwhile() {
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

    #[test]
    fn a_manifest_is_named_in_its_own_folder_alone() {
        assert_eq!(manifest_named_in(b"MANIFEST-000004\n"), Some("MANIFEST-000004"));
        for other in
            ["", "\n", "MANIFEST-\n", "MANIFEST-4", "MANIFEST-4/../5\n", "../MANIFEST-4\n", "X-4\n"]
        {
            assert_eq!(manifest_named_in(other.as_bytes()), None, "{other:?}");
        }
    }
}
