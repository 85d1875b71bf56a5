//! One writer at a time: an operating system's lock on a file of the store.
//!
//! The kernel drops the lock when its process ends, however it ends, so a killed
//! writer leaves nothing behind that a person has to clean up. Readers that need
//! the store to stand still share the lock, and so keep writers out.
//!
//! The lock belongs to a file, and writes go to a path. So a writer makes sure
//! that the path leads to the file that it has locked: when it opens the store,
//! and before each write.

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
use crate::io_failure;
use crate::lock_holder::{Held, Holder, holder_of};
use crate::locked_file::LockedFile;

/// What the writer of a store with a file a key locks; holds its process id, for
/// people to read.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// The same for RocksDB, whose own `LOCK` is of another kind.
pub(crate) const WRITER_FILE: &str = "WRITER";

/// How often, and how long apart, a writer tries where only readers are in its
/// way: somebody who looks whether the store is locked takes it for an instant.
const TRIES: usize = 25;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Takes the lock of `store` for a writer: that on the file at `path`, which
/// `open` opens. The file is known to be at the path, and its lock to work.
///
/// # Errors
/// [`StorageError::Locked`] with the path and who has it;
/// [`StorageError::IoError`] if locks do not work there.
pub(crate) fn take_alone(
    store: &Path,
    path: &Path,
    open: impl Fn() -> Result<File, StorageError>,
) -> Result<LockedFile, StorageError> {
    let mut refused = None;
    for _ in 0..TRIES {
        let file = match LockedFile::exclusive(open()?) {
            Ok(Ok(mut locked)) => {
                locked.remember_absolute(path).map_err(|error| cannot("look at", path, &error))?;
                let is_at = locked.is_at(path).map_err(|error| cannot("look at", path, &error))?;
                if !is_at {
                    // Replaced since it was opened.
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
        drop(share(store, file)?);
        thread::sleep(BETWEEN_TRIES);
    }
    Err(refused.unwrap_or_else(|| StorageError::Unavailable {
        key: None,
        detail: format!("{} keeps being replaced; retry", path.display()),
    }))
}

/// Takes the lock of `store` for a reader: that on `file`. Others may share it.
///
/// # Errors
/// [`StorageError::Locked`] with the path and who writes;
/// [`StorageError::IoError`] if locks do not work there.
pub(crate) fn share(store: &Path, file: File) -> Result<LockedFile, StorageError> {
    match LockedFile::shared(file) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(file)) => Err(held_for_writing(store, &file)),
        Err(error) => Err(cannot_lock(store, &error)),
    }
}

/// Makes sure that a write to the path `path` of `store` meets the file whose lock
/// is held. Costs one look at the path.
///
/// # Errors
/// [`StorageError::Unavailable`] if it does not: before anything is written.
pub(crate) fn check_in_place(
    store: &Path,
    path: &Path,
    file: &LockedFile,
) -> Result<(), StorageError> {
    check_and_tell(store, path, file, "nothing was written")
}

/// The same for a flush, which makes durable what was written before.
///
/// # Errors
/// [`StorageError::Unavailable`] if that is not at the path.
pub(crate) fn check_flushed(
    store: &Path,
    path: &Path,
    file: &LockedFile,
) -> Result<(), StorageError> {
    check_and_tell(store, path, file, "earlier writes are in the store that was opened")
}

fn check_and_tell(
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
            format!("cannot find out whether the store is still at {store}: {error}; {outcome}")
        }
    };
    Err(StorageError::Unavailable { key: None, detail })
}

/// Held for as long as the store in a directory is open for writing.
#[cfg(any(feature = "file", feature = "rocksdb"))]
#[derive(Debug)]
pub(crate) struct WriterLock {
    root: PathBuf,
    path: PathBuf,
    file: LockedFile,
}

#[cfg(any(feature = "file", feature = "rocksdb"))]
impl WriterLock {
    /// Takes the lock of the store in `root`: that on the file called `name`, in
    /// which it puts the writer's process id for people.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and who has it;
    /// [`StorageError::IoError`] if locks do not work there.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let file = take_alone(root, &path, || open_lock_file(&path))?;
        // A courtesy: a full disk must not keep a store shut.
        if holds_a_process_id(&file).unwrap_or(false) {
            let _ = file
                .set_len(0)
                .and_then(|()| (&*file).rewind())
                .and_then(|()| writeln!(&*file, "{}", std::process::id()));
        }
        Ok(Self { root: root.to_owned(), path, file })
    }

    /// Makes sure that the store is still where it was opened.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not: before anything is written.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        check_in_place(&self.root, &self.path, &self.file)
    }

    /// The same for a flush, which makes durable what was written before.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    pub(crate) fn check_flushed(&self) -> Result<(), StorageError> {
        check_flushed(&self.root, &self.path, &self.file)
    }

    /// The same for a listing that was read from the path.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if it is not.
    #[cfg(feature = "file")]
    pub(crate) fn check_listed(&self) -> Result<(), StorageError> {
        check_and_tell(&self.root, &self.path, &self.file, "nothing was listed")
    }
}

/// Whether a lock file is one of ours, or empty: anything else in it is somebody
/// else's, and so is a file that has another name too.
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

/// Whether this is what a writer puts into its lock file, or nothing.
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn is_process_id(text: &[u8]) -> bool {
    let number = text.strip_suffix(b"\n").unwrap_or(text);
    number.len() <= 10 && number.iter().all(u8::is_ascii_digit)
}

/// Opens the file that a writer locks, and makes it for its owner alone.
///
/// # Errors
/// [`StorageError::IoError`], also for a symbolic link: what it leads to is none of
/// the store's, and would be overwritten.
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
    disk::private(&mut options).open(path).map_err(|error| disk::failed("open", path, &error))
}

/// Keeps writers out for as long as it is held. Writes nothing; several may be
/// held at once.
#[cfg(feature = "file")]
#[derive(Debug)]
pub(crate) struct ReadersHold {
    path: PathBuf,
    /// `None` where there is no file to lock, as in a copy that left it out.
    file: Option<LockedFile>,
}

#[cfg(feature = "file")]
impl ReadersHold {
    /// Takes hold of the store in `root`, whose writers lock the file `name`.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and who writes.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let file = match File::open(&path) {
            Ok(file) => Some(share(root, file)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(disk::failed("open", &path, &error)),
        };
        let hold = Self { path, file };
        hold.check()?;
        Ok(hold)
    }

    /// Lets go.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if a writer may have come although it was held:
    /// the lock keeps nobody out of another store that has taken the path.
    pub(crate) fn end(self) -> Result<(), StorageError> {
        self.check()
    }

    fn check(&self) -> Result<(), StorageError> {
        let is_same = match &self.file {
            Some(file) => {
                file.is_at(&self.path).map_err(|error| cannot("look at", &self.path, &error))?
            }
            // A first writer creates the file that was not there to be locked.
            None => !disk::exists(&self.path)?,
        };
        if is_same {
            return Ok(());
        }
        Err(StorageError::Unavailable {
            key: None,
            detail: format!(
                "{} was created or replaced while the store was read, so what was read is not of \
                 one moment; read it again",
                self.path.display()
            ),
        })
    }
}

/// Checks whether a process has a store of any engine open for writing, and whether
/// locks work on its file system. Takes the shared lock for a moment and writes
/// nothing. Without a store it returns `Ok`.
///
/// # Errors
/// [`StorageError::Locked`] with the path and who writes; [`StorageError::IoError`]
/// if locks do not work there, or it cannot be found out.
pub fn look_for_writer(store: impl AsRef<Path>) -> Result<(), StorageError> {
    let store = store.as_ref();
    if store.is_file() {
        return look_at_lock(store, store);
    }
    [LOCK_FILE, WRITER_FILE].iter().try_for_each(|name| look_at_lock(store, &store.join(name)))
}

fn look_at_lock(store: &Path, path: &Path) -> Result<(), StorageError> {
    // Opening a pipe would wait for its other end.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(StorageError::IoError(format!("{} is not a regular file", path.display())));
    }
    let open = || match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot("open", path, &error)),
    };
    let Some(file) = open()? else { return Ok(()) };
    let shared = share(store, file)?;
    let Some(second) = open()? else { return Ok(()) };
    match shared.keeps_out(second) {
        Ok(false) => Err(granted_twice(store)),
        // A file system may refuse this kind of lock on a file that is open for
        // reading only.
        Ok(true) | Err(_) => Ok(()),
    }
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::IoError(io_failure::message(what, path, error))
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
    let (who, then) = match holder_of(file, Held::Alone) {
        Holder::ThisProcess => ("this process".to_owned(), "close it first"),
        Holder::Process(pid) => {
            (format!("process {pid}"), "retry when that process has ended, or stop it")
        }
        Holder::Unknown => (another_process(), "retry when it has closed the store"),
    };
    locked(store, &format!("{who} has it open for writing; {then}"))
}

/// The error for a writer who finds readers in its way.
fn held_for_reading(store: &Path, file: &File) -> StorageError {
    let who = match holder_of(file, Held::Shared) {
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
