//! What the targets were found to tell apart, and whatever they once found.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "test support")]

use std::path::Path;
use std::process::Command;

/// Each in a process of its own: the memory that a target takes is counted.
fn replay(target: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    // In memory where there is such a place: it is about bytes, not disks.
    if Path::new("/dev/shm").is_dir() {
        command.env("TMPDIR", "/dev/shm");
    }
    let output = command.arg(target).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(!text.contains(" 0 inputs"), "the corpus of {target} is empty");
}

macro_rules! corpora {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested() {
            let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

corpora!(ids keys file_names records damage cursors manifest store_urls calls calls_file calls_redb);
