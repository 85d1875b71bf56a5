//! One writer at a time: an operating system's lock on a file in the store.
//!
//! The kernel drops the lock when its process ends, however it ends, so a killed
//! writer leaves nothing behind that a person has to clean up. Readers that need
//! the store to stand still share the lock, and so keep writers out.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
#[cfg(feature = "file")]
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use storage_core::StorageError;

use crate::disk;
use crate::locked_file::LockedFile;

/// What the writer of a store with a file a key locks; holds its process id.
pub(crate) const LOCK_FILE: &str = "LOCK";

/// The same for RocksDB, whose own `LOCK` is of another kind.
pub(crate) const WRITER_FILE: &str = "WRITER";

/// How often, and how long apart, a writer tries where only readers are in its
/// way: somebody who looks whether the store is locked takes it for an instant.
const TRIES: usize = 25;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Held for as long as the store is open for writing.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: LockedFile,
}

impl WriterLock {
    /// Takes the lock of the store in `root`: that on the file called `name`, which
    /// holds the writer's process id for people.
    ///
    /// # Errors
    /// [`StorageError::Locked`] with the path and the process that has it.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            disk::private(&mut options)
                .open(&path)
                .map_err(|error| disk::failed("open", &path, &error))
        };
        for _ in 0..TRIES {
            match LockedFile::exclusive(open()?) {
                Ok(Ok(file)) => return Ok(Self::signed(file)),
                Ok(Err(_)) => {}
                Err(error) => return Err(disk::failed("lock", &path, &error)),
            }
            hold_beside_readers(root, &path, open()?)?;
            thread::sleep(BETWEEN_TRIES);
        }
        Err(StorageError::Locked(format!(
            "another process reads {} as of one moment, to copy it; wait until it is done",
            root.display()
        )))
    }

    /// Writes the process's number into the file. It is a courtesy: a full disk
    /// must not keep a store shut.
    fn signed(file: LockedFile) -> Self {
        let _ = file
            .set_len(0)
            .and_then(|()| (&*file).rewind())
            .and_then(|()| writeln!(&*file, "{}", std::process::id()));
        Self { _file: file }
    }
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
    /// [`StorageError::Locked`] with the path and the process that writes.
    pub(crate) fn take(root: &Path, name: &str) -> Result<Self, StorageError> {
        let path = root.join(name);
        let file = match File::open(&path) {
            Ok(file) => Some(hold_beside_readers(root, &path, file)?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(disk::failed("open", &path, &error)),
        };
        Ok(Self { path, file })
    }

    /// Lets go.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] if a writer came although it was held.
    pub(crate) fn end(self) -> Result<(), StorageError> {
        // A first writer makes the file that was not there to be locked.
        if self.file.is_none() && disk::is_there(&self.path)? {
            return Err(StorageError::Unavailable {
                key: None,
                detail: format!(
                    "a writer has made {} meanwhile, so that what was read is not as of one \
                     moment; read it again",
                    self.path.display()
                ),
            });
        }
        Ok(())
    }
}

/// Looks whether a process has the store in a folder open for writing, a `file:`
/// or a `rocksdb:` one. Takes the writer's lock for an instant, which no writer
/// notices, and writes nothing.
///
/// # Errors
/// [`StorageError::Locked`] with the path and the process that writes;
/// [`StorageError::IoError`] if that cannot be found out.
pub fn look_for_writer(store: impl AsRef<Path>) -> Result<(), StorageError> {
    let root = store.as_ref();
    for name in [LOCK_FILE, WRITER_FILE] {
        let path = root.join(name);
        match File::open(&path) {
            Ok(file) => drop(hold_beside_readers(root, &path, file)?),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(disk::failed("open", &path, &error)),
        }
    }
    Ok(())
}

/// Shares the lock with other readers of the store in `root`.
fn hold_beside_readers(root: &Path, path: &Path, file: File) -> Result<LockedFile, StorageError> {
    match LockedFile::shared(file) {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(mut file)) => Err(locked_by_writer(root, &mut file)),
        Err(error) => Err(disk::failed("lock", path, &error)),
    }
}

fn locked_by_writer(root: &Path, file: &mut File) -> StorageError {
    let mut holder = String::new();
    // A writer may be between emptying the file and writing into it.
    let _ = file.read_to_string(&mut holder);
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    StorageError::Locked(format!(
        "{holder} has {} open; end it, or ask it for the data",
        root.display()
    ))
}
