//! What other users than a store's owner may do with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rstest::rstest;

use crate::support::TestDir;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Runs the command with a umask.
fn run_with_umask(dir: &TestDir, umask: &str, args: &[&str]) {
    let inner = dir.command(args);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
    shell.arg(inner.get_program()).args(args).current_dir(dir.path()).stdin(Stdio::null());
    shell.env_remove("STORAGE_HOST_STORE");
    assert!(shell.status().unwrap().success(), "{umask}: {args:?}");
}

/// A path and everything below it.
fn all_of(path: PathBuf) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![path];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found
}

#[rstest]
fn a_new_store_is_private_under_any_umask(#[values("000", "022", "077")] umask: &str) {
    let dir = TestDir::new();
    let given = dir.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o755)).unwrap();
    let mut stores = vec!["file:new", "file:given"];
    if cfg!(feature = "redb") {
        stores.push("redb:data.redb");
    }
    if cfg!(feature = "rocksdb") {
        stores.push("rocksdb:rocks");
    }
    for store in stores {
        run_with_umask(&dir, umask, &["--store", store, "put", "a/b/c", "key", "value"]);
        let (_, path) = store.split_once(':').unwrap();
        let path = dir.path().join(path);
        for found in all_of(path.clone()) {
            let expected = match found.is_dir() {
                // It keeps the mode that it was given.
                _ if found == given => 0o755,
                true => 0o700,
                false => 0o600,
            };
            // The mode of the directory keeps others from RocksDB's own files.
            if !store.starts_with("rocksdb:") || found == path {
                assert_eq!(mode(&found), expected, "{umask}: {}", found.display());
            }
        }
        let printed = dir.printed(&["--store", store, "verify", "--strict"]);
        assert!(printed.starts_with("no problems found"), "{printed}");
    }
}
