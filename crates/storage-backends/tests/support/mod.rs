//! What the tests of stores that are directories share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use storage_core::StorageValue;

/// A directory for a store, gone at the end of the test.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Every file below, with its bytes.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_below(&self.path())
    }
}

pub(crate) fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Tells threads that go on until then to end, also when the test panics.
pub(crate) struct SetWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What the fixtures of the first formats hold.
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
