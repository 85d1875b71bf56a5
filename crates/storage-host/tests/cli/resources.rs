//! Limits of the process: an error says which one was met, and nothing is left behind.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;

#[cfg(feature = "redb")]
use crate::support::Mount;
use crate::support::{Done, TestDir, guest, started_by};

/// The command with a limit of the shell's.
fn limited(dir: &TestDir, limit: &str, args: &[&str]) -> Done {
    let script = format!("ulimit {limit}; exec \"$@\"");
    Done::of(started_by(&["sh", "-c", &script, "sh"], &dir.command(args)).output().unwrap())
}

#[rstest]
#[case::file("file:data")]
#[case::redb("redb:data")]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn a_write_above_the_limit_on_a_files_size_fails_and_leaves_nothing(#[case] store: &str) {
    let dir = TestDir::with_file_store();
    let put = ["--store", store, "put", "a/b/c", "key", &"x".repeat(100_000)];

    // No store yet. A block is 512 bytes or 1,024, as the shell likes.
    let done = limited(&dir, "-f 8", &put);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.starts_with("error: ") && done.stderr.contains("File too large"));
    let left = dir.tree("data");
    let temporary = left.keys().filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.contains(".tmp") || name.contains(".new")
    });
    assert_eq!(temporary.collect::<Vec<_>>(), Vec::<&PathBuf>::new());

    dir.printed(&["--store", store, "put", "a/b/c", "other", "value"]);
    let before: Vec<PathBuf> = dir.tree(".").into_keys().collect();
    let done = limited(&dir, "-f 8", &put);
    assert_eq!(done.code, 1, "{}", done.stderr);
    for part in ["File too large", "not write files larger than ", ": raise the limit (ulimit -f)"]
    {
        assert!(done.stderr.contains(part), "{}", done.stderr);
    }
    let doctor = limited(&dir, "-f 8", &["--store", store, "doctor"]);
    assert!(doctor.stdout.contains("(ulimit -f)"), "{}", doctor.stdout);
    assert_eq!(dir.printed(&["--store", store, "keys", "a/b/c"]), "other\n");
    assert_eq!(dir.printed(&["--store", store, "get", "a/b/c", "other"]), "value");
    dir.printed(&["--store", store, "verify"]);
    let after: Vec<PathBuf> = dir.tree(".").into_keys().collect();
    // RocksDB begins new files at each opening, and removes the old ones.
    if !store.starts_with("rocksdb") {
        assert_eq!(after, before);
    }
}

#[rstest]
fn a_lack_of_open_files_is_an_error(#[values("file:data", "redb:data")] store: &str) {
    let dir = TestDir::with_file_store();
    let notes = guest("notes");
    let add = ["--store", store, "run", "--id", "a/b/c", &notes, "add", "x"];
    let mut refused = 0;
    for files in [4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 40, 64] {
        let done = limited(&dir, &format!("-n {files}"), &add);
        if done.code == 0 {
            assert_eq!(done.stderr, "", "{files} files");
            continue;
        }
        refused += 1;
        assert_eq!(done.code, 1, "{files} files: {}", done.stderr);
        assert!(done.stderr.contains("open files"), "{files} files: {}", done.stderr);
        for word in ["panicked", "trapped"] {
            assert!(!done.stderr.contains(word), "{files} files: {}", done.stderr);
        }
    }
    assert!(refused > 0, "4 files are too few");
    // The standard streams take three, and the store lock one.
    let done = limited(&dir, "-n 4", &["--store", store, "put", "a/b/c", "key", "value"]);
    let expected = "this process may have 4 files open at once: raise the limit (ulimit -n)\n";
    assert!(done.code == 1 && done.stderr.ends_with(expected), "{}", done.stderr);
    assert_eq!(limited(&dir, "-n 64", &add).code, 0);
}

/// A user of whom there are no processes, if this one may become it.
pub(crate) fn other_user() -> Option<String> {
    let user = (200_000 + std::process::id()).to_string();
    let becomes = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "true"])
        .output();
    match becomes {
        Ok(output) if output.status.success() => Some(user),
        other => {
            println!("SKIPPED another user: {other:?}");
            None
        }
    }
}

/// A directory of another user.
fn dir_of(user: &str) -> TestDir {
    let dir = TestDir::with_file_store();
    let id = user.parse().unwrap();
    chown(dir.path(), Some(id), Some(id)).unwrap();
    dir
}

#[rstest]
fn a_lack_of_threads_is_an_error(#[values("1", "5")] instances: &str) {
    let Some(user) = other_user() else { return };
    let dir = dir_of(&user);
    let notes = fs::read(guest("notes")).unwrap();
    let notes = dir.file("notes.wasm", &notes);
    fs::set_permissions(&notes, Permissions::from_mode(0o644)).unwrap();
    let store = "redb:data?durability=relaxed";
    let args =
        ["--store", store, "run", "--id", "a/b/c", "--instances", instances, &notes, "add", "x"];
    let with = |threads: u32| {
        let threads = format!("--nproc={threads}");
        let starter = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
        let starter = [&starter[..], &["prlimit", &threads]].concat();
        let mut command = started_by(&starter, &dir.command(&args));
        // That of the other tests is not this user's.
        command.env("XDG_CACHE_HOME", dir.path().join("cache"));
        Done::of(command.output().unwrap())
    };
    if with(100).stderr.contains("execute") {
        return println!("SKIPPED few threads: the command cannot be started as another user");
    }
    let mut refused = 0;
    for threads in 1..14 {
        let done = with(threads);
        if done.code == 0 {
            assert_eq!(done.stderr, "", "{threads} threads");
            continue;
        }
        refused += 1;
        assert_eq!(done.code, 1, "{threads} threads: {}", done.stderr);
        assert!(done.stderr.contains("thread"), "{threads} threads: {}", done.stderr);
        for word in ["panicked", "trapped"] {
            assert!(!done.stderr.contains(word), "{threads} threads: {}", done.stderr);
        }
    }
    assert!(refused > 0, "one thread is too few");
}

#[cfg(feature = "redb")]
#[test]
fn a_component_that_only_reads_runs_on_a_store_that_cannot_be_written() {
    let dir = TestDir::new();
    let Some(mount) = Mount::new(&dir.path().join("disk"), "size=8m") else { return };
    for store in ["file:disk/data", "redb:disk/data.redb"] {
        dir.printed(&["--store", store, "run", "--id", "a/b/c", &guest("notes"), "add", "x"]);
    }
    mount.make_read_only();
    dir.assert_transcript("read_only");
}

#[test]
fn a_component_that_only_reads_runs_on_a_store_of_another_user() {
    let Some(user) = other_user() else { return };
    let dir = TestDir::with_file_store();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let notes = dir.file("notes.wasm", &fs::read(guest("notes")).unwrap());
    dir.printed(&["run", "--id", "a/b/c", &notes, "add", "x"]);
    let opened = Command::new("chmod").args(["-R", "a+rX"]).arg(dir.path()).status();
    assert!(opened.unwrap().success());
    let starter = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let mut command = started_by(&starter, &dir.command(&["run", "--id", "a/b/c", &notes, "list"]));
    command.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    let done = Done::of(command.output().unwrap());
    if done.stderr.contains("execute") {
        return println!("SKIPPED another user: {}", done.stderr);
    }
    assert_eq!((done.code, done.stdout.as_str()), (0, "1  x\n"), "{}", done.stderr);
    assert!(done.stderr.contains("is opened for reading only"), "{}", done.stderr);
}

#[cfg(all(feature = "redb", target_os = "linux"))]
#[test]
fn a_lack_of_inodes_is_named() {
    let dir = TestDir::with_file_store();
    let Some(_mount) = Mount::new(&dir.path().join("disk"), "size=1m,nr_inodes=20") else {
        return;
    };
    std::os::unix::fs::symlink("disk/store", dir.path().join("storage-data")).unwrap();
    fs::create_dir(dir.path().join("disk/store")).unwrap();
    dir.assert_transcript("inodes");
}
