//! The store lock: an operating system's lock on a file of the store.
//!
//! The kernel releases the lock when its process ends, so a killed writer leaves nothing
//! to clean up. Readers that need an unchanging store share the lock, which keeps writers
//! out.
//!
//! The lock belongs to a file, but writes go to a path. So a writer checks that the path
//! is the locked file when it opens the store, and before each write.

#[cfg(any(feature = "file", feature = "rocksdb"))]
use std::fs::OpenOptions;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
#[cfg(any(feature = "file", feature = "rocksdb"))]
use std::io::{Read, Seek, Write};
use std::path::Path;
#[cfg(any(feature = "file", feature = "rocksdb"))]
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use storage_core::StorageError;

#[cfg(any(feature = "file", feature = "rocksdb"))]
use crate::disk;
use crate::io_failure::failed;
use crate::lock_holder::{Holder, LockKind, holder_of};
use crate::locked_file::LockedFile;

/// The lock file of the file store. It contains the writer's process id, for information.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// The lock file of a RocksDB store, whose own `LOCK` is of another kind.
pub(crate) const WRITER_FILE: &str = "WRITER";

/// How often, and how long apart, a writer retries while readers hold the lock: a check
/// for a writer shares it briefly.
const TRIES: usize = 25;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Takes the lock of `store` for a writer, on the file at `path`, which `open` opens.
/// Makes sure that the file is at the path and that its lock works.
///
/// # Errors
/// [`StorageError::Locked`] with the path and the holder; [`StorageError::IoError`] if
/// locks do not work there.
pub(crate) fn lock_exclusive(
    store: &Path,
    path: &Path,
    open: impl Fn() -> Result<File, StorageError>,
) -> Result<LockedFile, StorageError> {
    let mut refused = None;
    for _ in 0..TRIES {
        let file = match LockedFile::exclusive(open()?) {
            Ok(Ok(mut locked)) => {
                locked
                    .remember_absolute(path)
                    .map_err(|error| failed("read the metadata of", path, &error))?;
                let is_at = locked
                    .is_at(path)
                    .map_err(|error| failed("read the metadata of", path, &error))?;
                if !is_at {
                    // It was replaced after it was opened.
                    continue;
                }
                return match locked.keeps_out(open()?) {
                    Ok(true) => Ok(locked),
                    Ok(false) => Err(granted_twice(store)),
                    Err(error) => Err(cannot_lock(store, &error)),
                };
            }
            Ok(Err(file)) => file,
            Err(error) => return Err(cannot_lock(store, &error)),
        };
        refused = Some(held_for_reading(store, &file));
        drop(lock_shared(store, file)?);
        thread::sleep(BETWEEN_TRIES);
    }
    Err(refused.unwrap_or_else(|| StorageError::Unavailable {
        key: None,
        detail: format!("{} keeps being replaced; retry", path.display()),
    }))
}

/// Takes the lock of `store` for a reader, on `file`. Readers share it.
///
/// # Errors
/// [`StorageError::Locked`] with the path and the writer; [`StorageError::IoError`] if
/// locks do not work there.
pub(crate) fn lock_shared(store: &Path, file: File) -> Result<LockedFile, StorageError> {
    match LockedFile::shared(file) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(file)) => Err(held_for_writing(store, &file)),
        Err(error) => Err(cannot_lock(store, &error)),
    }
}

/// Checks before a write that the path of `store` is the locked file. Costs one system
/// call.
///
/// # Errors
/// [`StorageError::Unavailable`] if it is not.
pub(crate) fn check_in_place(
    store: &Path,
    path: &Path,
    file: &LockedFile,
) -> Result<(), StorageError> {
    check_path(store, path, file, "nothing was written")
}

/// Checks the same after a flush of earlier writes.
///
/// # Errors
/// [`StorageError::Unavailable`] if it is not.
pub(crate) fn check_flushed(
    store: &Path,
    path: &Path,
    file: &LockedFile,
) -> Result<(), StorageError> {
    check_path(store, path, file, "earlier writes are in the store that was opened")
}

fn check_path(
    store: &Path,
    path: &Path,
    file: &LockedFile,
    outcome: &str,
) -> Result<(), StorageError> {
    let store = store.display();
    let detail = match file.is_at(path) {
        Ok(true) => return Ok(()),
        Ok(false) => format!(
            "the store at {store} was moved or replaced while it was open; {outcome}; restart \
             this process to use what is there now"
        ),
        Err(error) => {
            format!("cannot check whether the store is still at {store}: {error}; {outcome}")
        }
    };
    Err(StorageError::Unavailable { key: None, detail })
}

/// The store lock of a store directory that is open for writing.
#[cfg(any(feature = "file", feature = "rocksdb"))]
#[derive(Debug)]
pub(crate) struct WriterLock {
    root: PathBuf,
    path: PathBuf,
    file: LockedFile,
}

#[cfg(any(feature = "file", feature = "rocksdb"))]
impl WriterLock {
    /// Takes the lock of the store in `root`, on the file `name`, and writes the process id
    /// to it.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and the holder; [`StorageError::IoError`]
    /// if locks do not work there.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let file = lock_exclusive(root, &path, || open_lock_file(&path))?;
        // Only for information: a full disk must not prevent opening the store.
        if holds_a_process_id(&file).unwrap_or(false) {
            let _ = file
                .set_len(0)
                .and_then(|()| (&*file).rewind())
                .and_then(|()| writeln!(&*file, "{}", std::process::id()));
        }
        Ok(Self { root: root.to_owned(), path, file })
    }

    /// Checks before a write that the store is still where it was opened.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        check_in_place(&self.root, &self.path, &self.file)
    }

    /// Checks the same after a flush of earlier writes.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(crate) fn check_flushed(&self) -> Result<(), StorageError> {
        check_flushed(&self.root, &self.path, &self.file)
    }

    /// Checks the same after a listing.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    #[cfg(feature = "file")]
    pub(crate) fn check_listed(&self) -> Result<(), StorageError> {
        check_path(&self.root, &self.path, &self.file, "nothing was listed")
    }
}

/// Whether a lock file is empty or holds a process id. Other content, or a second hard
/// link, belongs to another program.
#[cfg(any(feature = "file", feature = "rocksdb"))]
fn holds_a_process_id(file: &File) -> io::Result<bool> {
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 1 {
        return Ok(false);
    }
    // A process id has at most 10 digits.
    let mut text = Vec::new();
    file.take(16).read_to_end(&mut text)?;
    Ok(is_process_id(&text))
}

/// Whether a lock file with this text is empty or holds a process id.
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn is_process_id(text: &[u8]) -> bool {
    let number = text.strip_suffix(b"\n").unwrap_or(text);
    number.len() <= 10 && number.iter().all(u8::is_ascii_digit)
}

/// Opens the file that a writer locks. Creates a private one.
///
/// # Errors
/// [`StorageError::IoError`], in particular for a symbolic link, whose target would be
/// overwritten.
#[cfg(any(feature = "file", feature = "rocksdb"))]
fn open_lock_file(path: &Path) -> Result<File, StorageError> {
    if path.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Err(StorageError::IoError(format!(
            "cannot lock {}: it is a symbolic link; remove it while no process has the store open",
            path.display()
        )));
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    disk::private(&mut options).open(path).map_err(|error| failed("open", path, &error))
}

/// A shared store lock, which keeps writers out. Writes nothing.
#[cfg(feature = "file")]
#[derive(Debug)]
pub(crate) struct SharedLock {
    path: PathBuf,
    /// `None` without a lock file, as in a copy without it.
    file: Option<LockedFile>,
}

#[cfg(feature = "file")]
impl SharedLock {
    /// Locks the store in `root`, whose writers lock the file `name`.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and the writer.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let file = match File::open(&path) {
            Ok(file) => Some(lock_shared(root, file)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed("open", &path, &error)),
        };
        let hold = Self { path, file };
        hold.check()?;
        Ok(hold)
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if another store replaced the path, which the lock
    /// does not cover.
    pub(crate) fn release(self) -> Result<(), StorageError> {
        self.check()
    }

    fn check(&self) -> Result<(), StorageError> {
        let is_same = match &self.file {
            Some(file) => file
                .is_at(&self.path)
                .map_err(|error| failed("read the metadata of", &self.path, &error))?,
            // The first writer creates the missing file.
            None => !disk::exists(&self.path)?,
        };
        if is_same {
            return Ok(());
        }
        Err(StorageError::Unavailable {
            key: None,
            detail: format!(
                "{} was created or replaced while the store was read; read it again",
                self.path.display()
            ),
        })
    }
}

/// Checks whether a process has a store of any engine open for writing, and whether
/// locks work on its file system. Shares the lock briefly and writes nothing. Without a
/// store it returns `Ok`.
///
/// # Errors
/// [`StorageError::Locked`] with the path and the writer; [`StorageError::IoError`] if
/// locks do not work there.
pub fn look_for_writer(store: impl AsRef<Path>) -> Result<(), StorageError> {
    let store = store.as_ref();
    if store.is_file() {
        return check_lock(store, store);
    }
    [LOCK_FILE, WRITER_FILE].iter().try_for_each(|name| check_lock(store, &store.join(name)))
}

fn check_lock(store: &Path, path: &Path) -> Result<(), StorageError> {
    // Opening a pipe would block.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(StorageError::IoError(format!("{} is not a regular file", path.display())));
    }
    let open = || match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path, &error)),
    };
    let Some(file) = open()? else { return Ok(()) };
    let shared = lock_shared(store, file)?;
    let Some(second) = open()? else { return Ok(()) };
    match shared.keeps_out(second) {
        Ok(false) => Err(granted_twice(store)),
        // A file system may refuse an exclusive lock on a file that is open for reading.
        Ok(true) | Err(_) => Ok(()),
    }
}

fn cannot_lock(store: &Path, error: &io::Error) -> StorageError {
    locks_do_not_work(store, &error.to_string())
}

fn granted_twice(store: &Path) -> StorageError {
    locks_do_not_work(store, "the file system grants an exclusive lock while another is held")
}

fn locks_do_not_work(store: &Path, why: &str) -> StorageError {
    StorageError::IoError(format!(
        "cannot lock the store {}: {why}; locks do not work on this file system, and without \
         them two writers would damage the store; keep the store on a local file system",
        store.display()
    ))
}

/// The error for a process that finds the store open for writing.
fn held_for_writing(store: &Path, file: &File) -> StorageError {
    let (who, then) = match holder_of(file, LockKind::Exclusive) {
        Holder::ThisProcess => ("this process".to_owned(), "close it first"),
        Holder::Process(pid) => {
            (format!("process {pid}"), "retry when that process has ended, or stop it")
        }
        Holder::Unknown => (another_process(), "retry when it has closed the store"),
    };
    locked(store, &format!("{who} has it open for writing; {then}"))
}

/// The error for a writer that finds readers.
fn held_for_reading(store: &Path, file: &File) -> StorageError {
    let who = match holder_of(file, LockKind::Shared) {
        Holder::ThisProcess => "this process".to_owned(),
        Holder::Process(pid) => format!("process {pid}"),
        Holder::Unknown => another_process(),
    };
    locked(store, &format!("{who} is reading it; retry when the reader has finished"))
}

fn another_process() -> String {
    "another process, perhaps in another container or on another machine,".to_owned()
}

fn locked(store: &Path, why: &str) -> StorageError {
    StorageError::Locked(format!("the store {} is locked: {why}", store.display()))
}
