//! A directory for a store under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use storage_core::{Problem, StorageError, StorageValue, Store, Verified};

/// A temporary directory with a path for a store in it.
pub(crate) struct StoreDir(pub(crate) tempfile::TempDir);

impl StoreDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A copy of a store in `tests/fixtures`.
    pub(crate) fn fixture(name: &str) -> Self {
        let dir = Self::new();
        dir.copy_fixture(name);
        dir
    }

    /// Adds the files of a store in `tests/fixtures`.
    pub(crate) fn copy_fixture(&self, name: &str) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let file = directory.join("store.redb");
        copy(if file.exists() { &file } else { &directory }, &self.path());
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Another path in the directory.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The files of the store with their bytes.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_below(&self.path())
    }

    /// The names in the directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A copy of the store. While the store is open, it is what a killed process leaves.
    pub(crate) fn copy(&self) -> Self {
        let dir = Self::new();
        copy(&self.path(), &dir.path());
        dir
    }
}

/// Copies a file or a directory, accessible to the owner only.
pub(crate) fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
    #[cfg(unix)]
    set_mode(to, if from.is_dir() { 0o700 } else { 0o600 });
}

#[cfg(unix)]
pub(crate) fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(unix)]
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// The files below a directory, or the file itself, with their bytes.
pub(crate) fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.exists() {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Every key and value in a store.
pub(crate) fn contents(store: &impl Store) -> Vec<(String, StorageValue)> {
    let keys = store.list_keys(None).unwrap();
    let value = |key: &String| store.get(key).unwrap().unwrap();
    keys.iter().map(|key| (key.clone(), value(key))).collect()
}

/// What a function that verifies reports, and the problems. Counts must agree.
pub(crate) fn problems(
    verify: impl FnOnce(&mut dyn FnMut(Problem)) -> Result<Verified, StorageError>,
) -> (Verified, Vec<Problem>) {
    let mut problems = Vec::new();
    let verified = verify(&mut |problem| problems.push(problem)).unwrap();
    assert_eq!(verified.problems + verified.warnings, problems.len() as u64, "{problems:?}");
    (verified, problems)
}

/// Ends the threads of a test, even when the test panics.
pub(crate) struct SetWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The contents of the fixtures `file-format-1` and `rocksdb-format-1`.
pub(crate) fn first_format() -> Vec<(String, StorageValue)> {
    let long = format!("app/notes/home/{}", "long/".repeat(100));
    [
        ("App/Notes/con/UPPER", "case"),
        ("app/counter/001/runs", "3"),
        ("app/notes/home/by-commit", "new"),
        (&*long, "long key"),
        ("app/notes/home/user:\u{e9}", "accent"),
        ("loose-key", ""),
    ]
    .map(|(key, value)| (key.to_owned(), value.into()))
    .into()
}
