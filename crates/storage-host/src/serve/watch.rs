//! Finds files that have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Files that are looked at again and again, to find those that have changed.
///
/// A change is reported once, when two looks in a row have found the same file: a file that is
/// being written is not complete. Changes of the content that keep size and time of the file
/// are not found.
#[derive(Debug)]
pub struct FileWatch {
    files: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// As it was when it was reported last, or at the beginning.
    known: Option<State>,
    /// As it was at the last look.
    last: Option<State>,
}

/// What differs after a change; a replaced file has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    modified: Option<SystemTime>,
    len: u64,
    number: u64,
}

impl State {
    /// `None` for a missing file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let number = 0;
        Some(Self { modified: metadata.modified().ok(), len: metadata.len(), number })
    }
}

impl FileWatch {
    /// Watches files from now on.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let watch = |path: PathBuf| {
            let state = State::of(&path);
            Watched { path, known: state, last: state }
        };
        Self { files: paths.into_iter().map(watch).collect() }
    }

    /// Looks at all files, and returns those that have changed. A missing file is not reported
    /// before it is there again.
    pub fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for file in &mut self.files {
            let state = State::of(&file.path);
            let is_stable = state == file.last;
            file.last = state;
            if state.is_some() && is_stable && state != file.known {
                file.known = state;
                changed.push(file.path.clone());
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_reported_once_when_the_file_no_longer_changes() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        fs::write(&one, "1").unwrap();
        let mut watch = FileWatch::new([one.clone(), other.clone()]);
        assert!(watch.changed().is_empty() && watch.changed().is_empty());
        fs::write(&one, "12").unwrap();
        assert!(watch.changed().is_empty());
        fs::write(&one, "123").unwrap();
        assert!(watch.changed().is_empty());
        assert_eq!(watch.changed(), std::slice::from_ref(&one));
        assert!(watch.changed().is_empty());
        // Replaced by another file of the same size, and one that was missing.
        let replacement = directory.path().join("replacement");
        fs::write(&replacement, "abc").unwrap();
        fs::rename(&replacement, &one).unwrap();
        fs::write(&other, "").unwrap();
        assert!(watch.changed().is_empty());
        assert_eq!(watch.changed(), [one.clone(), other]);
        fs::remove_file(&one).unwrap();
        assert!(watch.changed().is_empty() && watch.changed().is_empty());
    }
}
