//! A short run of each part that a mutant has to fail. Prints SKIPPED and passes
//! where the machine cannot run it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test support")]

use std::process::Command;

/// Runs the program and fails if it does.
fn durability(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_durability")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?} ended with {}:\n{text}", output.status);
}

#[test]
fn power_cuts_take_nothing_that_was_acknowledged() {
    durability(&["power-cuts", "--engine", "file", "--short"]);
}

#[test]
fn crash_prefixes_hold_what_was_acknowledged() {
    durability(&["block-log", "--engine", "file", "--short"]);
}

#[test]
fn faults_leave_each_operation_as_before_or_as_after() {
    durability(&["faults", "--engine", "file", "--short"]);
}

#[test]
fn a_full_disk_takes_nothing_away() {
    durability(&["full-disk", "--engine", "file"]);
}

/// The tasks, and kills enough that one falls between a write and its ledger,
/// if that can be.
const QUOTA: [&str; 6] = ["quota", "--seconds", "1", "--kills", "15", "--engine"];

#[test]
fn quotas_of_files_hold_at_their_edge_and_after_kills() {
    durability(&[&QUOTA[..], &["file"]].concat());
}

#[cfg(feature = "redb")]
#[test]
fn quotas_of_redb_hold_at_their_edge_and_after_kills() {
    durability(&[&QUOTA[..], &["redb"]].concat());
}

#[cfg(feature = "rocksdb")]
#[test]
fn quotas_of_rocksdb_hold_at_their_edge_and_after_kills() {
    durability(&[&QUOTA[..], &["rocksdb"]].concat());
}
