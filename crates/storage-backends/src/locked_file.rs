//! A locked file that releases its lock when it is dropped.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Deref;
use std::path::{Path, PathBuf};

/// A file with a lock.
///
/// Closing a file releases its lock only when no process has it open, and a process that
/// another thread just forked has it open until it starts its program. So the lock is
/// released explicitly. Otherwise a store could not always be reopened right after it was
/// closed.
#[derive(Debug)]
pub(crate) struct LockedFile {
    file: File,
    id: FileId,
    /// The absolute path of a file that was opened by a relative one.
    absolute: Option<PathBuf>,
}

impl LockedFile {
    /// Takes an exclusive lock. Returns the file if it is locked.
    pub(crate) fn exclusive(file: File) -> io::Result<Result<Self, File>> {
        Self::granted(file.try_lock(), file)
    }

    /// Takes a shared lock. Returns the file if it is locked exclusively.
    pub(crate) fn shared(file: File) -> io::Result<Result<Self, File>> {
        Self::granted(file.try_lock_shared(), file)
    }

    fn granted(tried: Result<(), TryLockError>, file: File) -> io::Result<Result<Self, File>> {
        match tried {
            Ok(()) => {
                let id = FileId::of(&file.metadata()?);
                Ok(Ok(Self { file, id, absolute: None }))
            }
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Records the absolute form of a relative path. A relative path follows the working
    /// directory when that is moved, but other processes use the absolute path.
    pub(crate) fn remember_absolute(&mut self, path: &Path) -> io::Result<()> {
        self.absolute = match path.is_relative() {
            true => Some(std::path::absolute(path)?),
            false => None,
        };
        Ok(())
    }

    /// Whether the path, and its absolute form, is still this file. The lock does not cover
    /// another file at the path.
    pub(crate) fn is_at(&self, path: &Path) -> io::Result<bool> {
        // Other systems do not replace an open file.
        if cfg!(not(unix)) {
            return Ok(true);
        }
        let is_there = |path: &Path| match fs::symlink_metadata(path) {
            Ok(found) => Ok(FileId::of(&found) == self.id),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        };
        Ok(is_there(path)? && self.absolute.as_deref().map_or(Ok(true), is_there)?)
    }

    /// Whether the lock works: `second`, another opening of the same file, must not get it.
    /// Some file systems grant it twice.
    pub(crate) fn keeps_out(&self, second: File) -> io::Result<bool> {
        match Self::exclusive(second)? {
            // Another file is at the path now.
            Ok(granted) => Ok(granted.id != self.id),
            Err(_) => Ok(true),
        }
    }
}

/// Identifies an open file: its device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
}

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device_and_inode: (metadata.dev(), metadata.ino()) }
    }

    #[cfg(not(unix))]
    fn of(_metadata: &fs::Metadata) -> Self {
        Self {}
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // If this fails, closing the file releases the lock.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_file_is_moved_if_its_absolute_path_is_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("work")).unwrap();
        fs::write(at("work/LOCK"), "").unwrap();
        // A path that follows the directory, as a relative one does.
        std::os::unix::fs::symlink("work", at("here")).unwrap();
        let open = || File::open(at("here/LOCK")).unwrap();
        let mut locked = LockedFile::exclusive(open()).unwrap().unwrap();
        locked.absolute = Some(at("work/LOCK"));
        assert!(locked.is_at(&at("here/LOCK")).unwrap());
        fs::rename(at("work"), at("moved")).unwrap();
        fs::remove_file(at("here")).unwrap();
        std::os::unix::fs::symlink("moved", at("here")).unwrap();
        assert!(!locked.is_at(&at("here/LOCK")).unwrap());
    }

    /// A forked process has a second handle of the same opening.
    #[test]
    fn the_lock_is_released_while_a_forked_process_has_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(directory.path().join("LOCK")).unwrap()
        };
        for take in [LockedFile::exclusive, LockedFile::shared] {
            let held = take(open()).unwrap().unwrap();
            assert!(LockedFile::exclusive(open()).unwrap().is_err());
            let inherited = held.try_clone().unwrap();
            drop(held);
            assert!(LockedFile::exclusive(open()).unwrap().is_ok());
            drop(inherited);
        }
    }

    fn open(path: &Path) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_at_its_path_until_it_is_moved_or_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let locked = LockedFile::exclusive(open(&at("LOCK"))).unwrap().unwrap();
        assert!(locked.is_at(&at("LOCK")).unwrap());
        fs::rename(at("LOCK"), at("moved")).unwrap();
        assert!(!locked.is_at(&at("LOCK")).unwrap());
        fs::copy(at("moved"), at("LOCK")).unwrap();
        assert!(!locked.is_at(&at("LOCK")).unwrap());
        fs::remove_file(at("LOCK")).unwrap();
        std::os::unix::fs::symlink(at("moved"), at("LOCK")).unwrap();
        assert!(!locked.is_at(&at("LOCK")).unwrap(), "a link is another file");
        fs::rename(at("moved"), at("LOCK")).unwrap();
        assert!(locked.is_at(&at("LOCK")).unwrap());
        assert!(!locked.is_at(&at("LOCK/below")).unwrap());
    }

    #[test]
    fn a_lock_that_is_granted_twice_does_not_work() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let locked = LockedFile::exclusive(open(&at("LOCK"))).unwrap().unwrap();
        assert!(locked.keeps_out(open(&at("LOCK"))).unwrap());
        // As on a file system without locks.
        locked.file.unlock().unwrap();
        assert!(!locked.keeps_out(open(&at("LOCK"))).unwrap());
        assert!(locked.keeps_out(open(&at("another"))).unwrap());
    }
}
