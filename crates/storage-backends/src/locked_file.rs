//! A file with an operating system's lock that is given back at once.

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Deref;

/// A file whose lock ends with it.
///
/// Closing a file ends its lock only once nobody has it open, and a process that
/// another thread has just forked has it open until it runs its program. So the
/// lock is given back before the file is closed; without that, a store could not
/// be opened again right after it was closed.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Takes the lock for one holder alone; the file comes back if somebody else
    /// has it.
    pub(crate) fn exclusive(file: File) -> io::Result<Result<Self, File>> {
        Self::granted(file.try_lock(), file)
    }

    /// Takes the lock beside others who take it so; the file comes back if
    /// somebody has it alone.
    pub(crate) fn shared(file: File) -> io::Result<Result<Self, File>> {
        Self::granted(file.try_lock_shared(), file)
    }

    fn granted(tried: Result<(), TryLockError>, file: File) -> io::Result<Result<Self, File>> {
        match tried {
            Ok(()) => Ok(Ok(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // What cannot be given back ends when the file is closed.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second handle of the same opening is what a forked process has.
    #[test]
    fn the_lock_ends_although_a_forked_process_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(folder.path().join("LOCK")).unwrap()
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
}
