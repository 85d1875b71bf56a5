//! Resources of the machine that are used up: the message names which.

use std::process::Command;

use rstest::rstest;

use crate::support::{Done, Mount, TestDir};

#[test]
fn a_lack_of_inodes_is_named() {
    let dir = TestDir::new();
    let Some(_mount) = Mount::new(&dir.path().join("disk"), "size=1m,nr_inodes=20") else {
        return;
    };
    let put = |store: &str, key: &str| dir.run(&["--store", store, "put", "a/b/c", key, "value"]);
    let failed = (0..20)
        .map(|number| put("file:disk/store", &format!("key-{number}")))
        .find(|done| done.code != 0)
        .unwrap();
    for stderr in [failed.stderr, put("redb:disk/data", "key").stderr] {
        assert!(stderr.contains(" KiB free, but no free inode, of which each file"), "{stderr}");
        assert!(!stderr.contains("free some space"), "{stderr}");
    }
    // What is there can be changed, and what is deleted makes room.
    assert_eq!(dir.run(&["--store", "file:disk/store", "delete", "a/b/c", "key-0"]).code, 0);
    assert_eq!(put("file:disk/store", "again").code, 0);

    let doctor = dir.printed_with_code(&["--store", "file:disk/store", "doctor"], 0);
    assert!(doctor.contains("\nwarning: the file system has no free inode"), "{doctor}");
    let doctor = dir.printed_with_code(&["--store", "redb:disk/new", "doctor"], 0);
    assert!(doctor.contains("\nwarning: the file system has no free inode"), "{doctor}");
}

#[rstest]
#[case::file("file:store")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
fn a_limit_on_the_size_of_files_is_named(#[case] store: &str) {
    let dir = TestDir::new();
    // Ignored, so that the write fails instead; what is ignored stays so.
    let limited = |args: &str| {
        let program = env!("CARGO_BIN_EXE_storage-host");
        let script = format!("trap '' XFSZ; ulimit -f 64; exec {program} --store {store} {args}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).current_dir(dir.path());
        Done::of(command.output().unwrap())
    };
    dir.file("large", &vec![b'x'; 1_000_000]);
    let done = limited("put a/b/c key < large");
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("File too large"), "{}", done.stderr);
    let bytes = "no file larger than 65536 bytes: raise the limit (ulimit -f)";
    let bytes = if done.stderr.contains("65536") {
        bytes.to_owned()
    } else {
        bytes.replace("65536", "32768")
    };
    assert!(done.stderr.contains(&bytes), "{}", done.stderr);
    let done = limited("doctor");
    assert!(done.stdout.contains("(ulimit -f)"), "{}", done.stdout);
}

#[rstest]
#[case::file("file:store")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
fn a_limit_on_open_files_is_named(#[case] store: &str) {
    let dir = TestDir::new();
    let program = env!("CARGO_BIN_EXE_storage-host");
    // Standard input, output and error take three, and the store's lock one.
    let script = format!("ulimit -n 4; exec {program} --store {store} put a/b/c key value");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).current_dir(dir.path());
    let done = Done::of(command.output().unwrap());
    assert_eq!(done.code, 1);
    let expected = "this process may have 4 files open at once: raise the limit (ulimit -n)\n";
    assert!(done.stderr.ends_with(expected), "{}", done.stderr);
}
