//! Reads, writes and bounds the entries of the cache.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;

use super::directory::{self, is_own_file};
use super::entry::{EntryKey, VerifiedCode, verify};

/// The prefix of temporary files.
const TEMPORARY: &str = ".tmp-";

/// The age from which a temporary file is abandoned.
const ABANDONED: Duration = Duration::from_secs(3600);

/// The maximum size of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    entries: usize,
    bytes: u64,
}

/// A large component, such as a JavaScript runtime, takes 30 MiB.
const BOUNDS: Bounds = Bounds { entries: 256, bytes: 1 << 30 };

/// A directory of compiled components that no other user can write.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    bounds: Bounds,
}

impl Store {
    /// A cache in a trusted directory, which may not exist yet.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, bounds: BOUNDS }
    }

    /// The machine code of a key; `None` if there is none that can be trusted.
    pub(super) fn read(&self, key: &EntryKey) -> Option<VerifiedCode> {
        let path = self.directory.join(key.file_name());
        let (file, bytes) = match read_own_file(&path, self.bounds.bytes) {
            Ok(read) => read,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot use {}: {error}", path.display());
                }
                return None;
            }
        };
        let code = verify(key, bytes);
        match &code {
            // Marks the entry as used. If this fails, the entry is removed too early, which
            // costs a compilation.
            Some(_) => drop(file.set_modified(SystemTime::now())),
            None => tracing::warn!("{} is damaged; replacing it", path.display()),
        }
        code
    }

    /// Writes or replaces the machine code of a key. An error changes nothing.
    pub(super) fn write(&self, key: &EntryKey, code: &[u8]) -> io::Result<()> {
        let entry = key.encode(code);
        if entry.len() as u64 > self.bounds.bytes {
            return Ok(());
        }
        directory::create(&self.directory)?;
        // Another user may have created it first.
        if let Some(reason) = directory::distrust(&self.directory) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.directory)?;
        // The umask may have removed permissions.
        file.as_file().set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&entry)?;
        // Not synced: an entry damaged by a power cut does not verify.
        file.persist(self.directory.join(key.file_name()))?;
        self.remove_least_recently_used()
    }

    /// Removes entries until the rest is within the bounds, and the temporary files of
    /// killed processes.
    fn remove_least_recently_used(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.directory)? {
            let file = file?;
            // Another process may have removed it.
            let Ok(metadata) = file.metadata() else { continue };
            if !metadata.is_file() {
                continue;
            }
            let used = metadata.modified()?;
            if !file.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                entries.push((used, metadata.len(), file.path()));
            } else if used.elapsed().is_ok_and(|age| age > ABANDONED) {
                remove(&file.path())?;
            }
        }
        // The most recently used first.
        entries.sort_by(|one, other| other.cmp(one));
        let mut bytes = 0_u64;
        for (number, (_, len, path)) in entries.iter().enumerate() {
            bytes = bytes.saturating_add(*len);
            if number >= self.bounds.entries || bytes > self.bounds.bytes {
                remove(path)?;
            }
        }
        Ok(())
    }
}

/// Removes a file that may already be gone.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a regular file that only this user can write. Follows no link, and does not block.
fn read_own_file(path: &Path, most: u64) -> io::Result<(File, Vec<u8>)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let refused = |why| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if !is_own_file(&metadata) {
        return refused("it is not a regular file that only this user can write");
    }
    if metadata.len() > most {
        return refused("it is too large");
    }
    let mut bytes = Vec::new();
    (&mut file).take(most).read_to_end(&mut bytes)?;
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use storage_host::wasmtime::Engine;

    use super::*;

    /// A cache in a directory that only this user can write.
    fn store(entries: usize, bytes: u64) -> (tempfile::TempDir, Store) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("compiled");
        (parent, Store { directory, bounds: Bounds { entries, bytes } })
    }

    fn keys<const N: usize>() -> [EntryKey; N] {
        let engine = Engine::default();
        std::array::from_fn(|number| EntryKey::new(&engine, &[u8::try_from(number).unwrap()]))
    }

    /// Sets the last use of an entry to this many seconds ago.
    fn age(store: &Store, key: &EntryKey, seconds: u64) {
        let file = File::open(store.directory.join(key.file_name())).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn the_least_recently_used_entries_are_removed() {
        let (_parent, store) = store(2, 10_000);
        let [a, b, c] = keys();
        store.write(&a, b"a").unwrap();
        age(&store, &a, 200);
        store.write(&b, b"b").unwrap();
        age(&store, &b, 100);
        // A hit counts as a use.
        assert_eq!(store.read(&a).unwrap().bytes(), b"a");
        store.write(&c, b"c").unwrap();
        assert!(store.read(&b).is_none());
        assert!(store.read(&a).is_some() && store.read(&c).is_some());
    }

    #[test]
    fn the_bytes_of_all_entries_are_bounded() {
        let (_parent, store) = store(100, 2_500);
        let [a, b, c, d] = keys();
        for (seconds, key) in [(300, &a), (200, &b), (100, &c)] {
            store.write(key, &[0; 1_000]).unwrap();
            age(&store, key, seconds);
        }
        assert!(store.read(&a).is_none());
        assert!(store.read(&b).is_some() && store.read(&c).is_some());
        // An entry above the bound is not written, and removes nothing.
        store.write(&d, &[0; 3_000]).unwrap();
        assert!(store.read(&d).is_none() && store.read(&c).is_some());
    }

    #[test]
    fn abandoned_temporary_files_are_removed_and_others_are_not() {
        let (_parent, store) = store(100, 10_000);
        let [a] = keys();
        directory::create(&store.directory).unwrap();
        let [old, new] = ["old", "new"].map(|name| store.directory.join(format!(".tmp-{name}")));
        for path in [&old, &new] {
            fs::write(path, "half").unwrap();
        }
        let long_ago = SystemTime::now() - Duration::from_secs(7_200);
        File::open(&old).unwrap().set_modified(long_ago).unwrap();
        store.write(&a, b"a").unwrap();
        assert!(!old.exists() && new.exists());
    }
}
