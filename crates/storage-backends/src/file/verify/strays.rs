//! Entries of a store directory that are not part of the store.
//!
//! A foreign file is a warning: the store ignores it. A file that holds a value of the
//! store is damage, and so is a link or device with a name of the store.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Check, Found, FoundKind, text_of};
use crate::file::disk;
use crate::record;
use storage_core::{Problem, ProblemKind};

/// Larger files are not checked for a value.
const STRAY_BYTES: u64 = 64 << 20;

impl Check<'_> {
    /// Reports an entry that is not part of the store or not where it belongs. `named`:
    /// the store uses this name there.
    pub(super) fn stray(&mut self, found: &Found, named: bool) {
        match found.kind {
            FoundKind::File => self.stray_file(&found.path, named),
            FoundKind::Directory => self.stray_directory(&found.path, named),
            FoundKind::Link if named => self.link(&found.path, FoundKind::File),
            FoundKind::Link => self.foreign(&found.path, "unknown symbolic link, ignored"),
            FoundKind::Other if named => {
                self.counted = None;
                self.problem_at(
                    &found.path,
                    "is a pipe, socket or device, not a file; move it out of the store directory",
                );
            }
            FoundKind::Other => {
                self.foreign(&found.path, "unknown pipe, socket or device, ignored")
            }
        }
    }

    /// Reports a link where the store has a file or a directory.
    pub(super) fn link(&mut self, path: &Path, wanted: FoundKind) {
        // The store does not count what the link leads to.
        self.counted = None;
        let error = match wanted {
            FoundKind::Directory => disk::link_to_directory(path),
            _ => disk::link_to_file(path),
        };
        let text = text_of(error);
        let detail = text.strip_prefix(&format!("{} ", path.display())).unwrap_or(&text);
        self.problem_at(path, detail);
    }

    fn foreign(&mut self, path: &Path, what: &str) {
        let detail = format!("{what}; move it out of the store directory");
        let problem = Problem::new(path.display().to_string(), detail);
        self.problem(problem.with_kind(ProblemKind::ForeignFile));
    }

    fn stray_file(&mut self, path: &Path, named: bool) {
        let Some(key) = key_of_value(path) else {
            if named {
                return self.foreign(path, "a file that blocks components with this name");
            }
            return self.foreign(path, "unknown file, ignored");
        };
        let expected = self.layout.key_file(&key);
        let detail = format!(
            "holds a value of this key but has a name that the store ignores; rename it to {}, \
             unless that file exists and is newer",
            expected.display()
        );
        self.problem_of(path, &key, detail);
    }

    fn stray_directory(&mut self, path: &Path, named: bool) {
        let Some((file, key)) = value_below(path) else {
            if named {
                return self.foreign(path, "a directory that blocks the key with this name");
            }
            return self.foreign(path, "unknown directory, ignored");
        };
        let detail = format!(
            "is not a directory of the store, so the store ignores the values in it, such as {}; \
             if they belong to the store, restore the name of the directory, otherwise move it \
             out of the store directory",
            file.display()
        );
        self.problem_of(path, &key, detail);
    }
}

/// The key of the value in a file, if it holds one.
fn key_of_value(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(STRAY_BYTES).read_to_end(&mut bytes).ok()?;
    record::decode(&bytes).ok().map(|record| record.key)
}

/// The first file below a directory that holds a value, and its key. Skips what cannot
/// be read.
fn value_below(directory: &Path) -> Option<(PathBuf, String)> {
    let mut left = vec![(directory.to_owned(), true)];
    while let Some((path, is_directory)) = left.pop() {
        if !is_directory {
            if let Some(key) = key_of_value(&path) {
                return Some((path, key));
            }
            continue;
        }
        let mut below = Vec::new();
        let _ = disk::visit_entries(&path, |name, file_type| {
            if file_type.is_dir() || file_type.is_file() {
                below.push((path.join(name), file_type.is_dir()));
            }
            true
        });
        below.sort_unstable_by(|one, other| other.cmp(one));
        left.append(&mut below);
    }
    None
}
