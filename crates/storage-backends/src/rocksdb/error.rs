//! Converts RocksDB's errors into [`StorageError`]s.

use std::path::{Path, PathBuf};

use ::rocksdb::{Error, ErrorKind};
use storage_core::StorageError;

use crate::io_failure::{self, Cause};

/// Part of RocksDB's message if this process has the path open.
const HELD_HERE: &str = "lock hold by current process";

/// Converts an error of the operation `what` on the store in `root`.
pub(super) fn failed(what: &str, root: &Path, error: &Error) -> StorageError {
    let text: &str = error.as_ref();
    let store = root.display();
    match error.kind() {
        ErrorKind::Corruption => corrupt(root, None, text),
        ErrorKind::IOError if names_a_lock(text) => StorageError::Locked(format!(
            "the store {store} is locked: {} ({text})",
            if text.contains(HELD_HERE) {
                "this process has a database open at this path, or had one that was moved; close \
                 it, or restart the process"
            } else {
                "another program has the database open; retry when it has closed it"
            }
        )),
        ErrorKind::IOError => {
            StorageError::IoError(format!("cannot {what} {store}: {text}{}", advice(text, root)))
        }
        ErrorKind::TimedOut | ErrorKind::Busy | ErrorKind::TryAgain | ErrorKind::Aborted => {
            StorageError::Unavailable {
                key: None,
                detail: format!("cannot {what} {store}: {text}"),
            }
        }
        _ => StorageError::IoError(format!("cannot {what} {store}: {text}")),
    }
}

/// Damage to the record of a key, or to the store.
pub(super) fn corrupt(root: &Path, key: Option<&str>, detail: &str) -> StorageError {
    let help = match key {
        Some(_) => "restore the store from a copy, or write or delete the key",
        None => "restore the store from a copy",
    };
    StorageError::Corrupt {
        key: key.map(str::to_owned),
        detail: format!("{}: {detail}; {help}", root.display()),
    }
}

/// Converts the error of a read of a key.
pub(super) fn failed_to_read(key: &str, root: &Path, error: &Error) -> StorageError {
    match error.kind() {
        ErrorKind::Corruption => corrupt(root, Some(key), error.as_ref()),
        _ => failed("read", root, error),
    }
}

/// Whether a file is missing.
pub(super) fn names_a_missing_file(error: &Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("No such file or directory")
}

fn names_a_lock(text: &str) -> bool {
    text.contains(HELD_HERE) || text.contains("While lock file")
}

/// What is exhausted or missing, and what to do, if that is known.
fn advice(text: &str, root: &Path) -> String {
    let Some(cause) = Cause::in_text(text) else { return String::new() };
    let (operation, path) = failed_step(text, root);
    let advice = io_failure::advice(cause, operation, &path);
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    match cause {
        // RocksDB refuses writes after it could not write its log.
        Cause::NoSpace | Cause::Quota | Cause::FileTooLarge => {
            format!("{advice}; if writes still fail after that, reopen the store")
        }
        _ => advice,
    }
}

/// Which operation failed on which path, from RocksDB's message:
/// `IO error: No space left on device: While appending to file: /d/000012.log: ..`.
fn failed_step(text: &str, root: &Path) -> (&'static str, PathBuf) {
    // With the characters around it: a root such as `d` is a part of many words.
    let named = text.find(&format!(" {}/", root.display())).and_then(|at| text.get(at + 1..));
    let path = named.map_or(root, |rest| Path::new(rest.split(": ").next().unwrap_or(rest)));
    let lower = text.to_lowercase();
    let only_changes_names = ["open a file", "mkdir", "renam", "link file"];
    let operation = if only_changes_names.iter().any(|words| lower.contains(words)) {
        "create"
    } else {
        "write"
    };
    (operation, path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failed_operation_and_path_are_found_in_the_message() {
        let root = Path::new("/data/db");
        for (text, operation, path) in [
            (
                "IO error: No space left on device: While appending to file: \
                 /data/db/000012.log: No space left on device",
                "write",
                "/data/db/000012.log",
            ),
            (
                "IO error: Permission denied: While open a file for appending: \
                 /data/db/000013.log: Permission denied",
                "create",
                "/data/db/000013.log",
            ),
            ("IO error: No space left on device", "write", "/data/db"),
            ("IO error: No space left on device: /data/db2/1: ..", "write", "/data/db"),
        ] {
            assert_eq!(failed_step(text, root), (operation, path.into()), "{text}");
            assert!(Cause::in_text(text).is_some(), "{text}");
        }
    }
}
