//! Short runs of the parts that mutants must fail. A part passes with SKIPPED on a machine
//! that cannot run it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test support")]

use std::process::Command;

fn durability(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_durability")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?} ended with {}:\n{text}", output.status);
}

#[test]
fn acknowledged_writes_survive_power_cuts() {
    durability(&["power-cuts", "--engine", "file", "--short"]);
}

#[test]
fn acknowledged_writes_are_in_crash_prefixes() {
    durability(&["block-log", "--engine", "file", "--short"]);
}

#[test]
fn operations_with_faults_happen_completely_or_not_at_all() {
    durability(&["faults", "--engine", "file", "--short"]);
}

#[test]
fn full_disks_lose_no_data() {
    durability(&["full-disk", "--engine", "file"]);
}

/// Enough kills that one falls between a write and its usage counter, if that is possible.
const QUOTA: [&str; 6] = ["quota", "--seconds", "1", "--kills", "15", "--engine"];

#[test]
fn quotas_of_files_are_exact() {
    durability(&[&QUOTA[..], &["file"]].concat());
}

#[cfg(feature = "redb")]
#[test]
fn quotas_of_redb_are_exact() {
    durability(&[&QUOTA[..], &["redb"]].concat());
}

#[cfg(feature = "rocksdb")]
#[test]
fn quotas_of_rocksdb_are_exact() {
    durability(&[&QUOTA[..], &["rocksdb"]].concat());
}

#[cfg(feature = "postgres")]
#[test]
fn acknowledged_writes_survive_killed_servers() {
    durability(&["kills", "--engine", "postgres", "--short"]);
}

#[cfg(feature = "postgres")]
#[test]
fn acknowledged_writes_survive_failovers() {
    durability(&["failovers", "--engine", "postgres", "--short"]);
}

#[cfg(feature = "postgres")]
#[test]
fn quotas_of_postgres_are_exact() {
    durability(&["quota", "--engine", "postgres", "--short"]);
}
