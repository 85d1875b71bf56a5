//! `cargo xtask mutants` on a small crate: every result, and that the checkout does
//! not change.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const LIB: &str = "\
//! A crate to break.

pub fn one() -> u32 {
    0x1
}

#[test]
fn one_is_one() {
    assert_eq!(one(), 1);
}
";

/// A repository with one crate and these mutants.
fn fixture(mutants: &[(&str, &str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "[package]\nname = \"fixture\"\nedition = \"2024\"\n\n[workspace]\n");
    write(".gitignore", "target\nCargo.lock\n");
    write("src/lib.rs", LIB);
    let mutant = |(name, find, replace): &(&str, &str, &str)| {
        let test = "breaks = \"a\"\nmatters = \"b\"\ntests = [\"--lib\"]";
        format!("[[mutant]]\nname = \"{name}\"\nfind = '{find}'\nreplace = '{replace}'\n{test}\n")
    };
    write("xtask/mutants/fixture.toml", &mutants.iter().map(mutant).collect::<String>());
    let init = Command::new("git").args(["init", "--quiet"]).current_dir(&directory).status();
    assert!(init.unwrap().success());
    directory
}

fn mutants(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("mutants")
        .args(arguments)
        .current_dir(directory)
        // The fixture builds in a target directory of its own.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .output()
        .unwrap()
}

/// The result that the table shows for a mutant.
fn result(output: &Output, name: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().find(|line| line.ends_with(&format!("  {name}")));
    let row = row.unwrap_or_else(|| panic!("no row for {name} in:\n{text}"));
    row.trim_start().chars().take(13).collect::<String>().trim_end().to_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_mutant_gets_its_result() {
    let directory = fixture(&[
        ("broken", "0x1", "\"one\""),
        ("killed", "0x1", "3"),
        ("stale", "0x4", "5"),
        ("survives", "0x1", "2 - 1"),
    ]);
    let output = mutants(directory.path(), &[]);

    assert_eq!(result(&output, "broken"), "BROKEN");
    assert_eq!(result(&output, "killed"), "killed");
    assert_eq!(result(&output, "stale"), "STALE");
    assert_eq!(result(&output, "survives"), "SURVIVED");
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.contains("3 of 4 mutants were not killed"), "{errors}");
    assert!(errors.contains("mismatched types"), "{errors}");
    assert!(errors.contains("passed   cargo test --lib"), "{errors}");

    assert_eq!(fs::read_to_string(directory.path().join("src/lib.rs")).unwrap(), LIB);
    let scratch = directory.path().join("target/mutants/tree/src/lib.rs");
    assert_eq!(fs::read_to_string(scratch).unwrap(), LIB);
}

#[test]
fn one_mutant_can_be_tried_alone() {
    let directory = fixture(&[("killed", "0x1", "3"), ("survives", "0x1", "2 - 1")]);
    let output = mutants(directory.path(), &["killed"]);
    assert_eq!(result(&output, "killed"), "killed");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));

    let output = mutants(directory.path(), &["kiled"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("there is no mutant kiled"));
}

#[test]
fn tests_that_hang_kill_a_mutant() {
    let directory = fixture(&[("hangs", "0x1", "loop {}")]);
    let output = mutants(directory.path(), &["--timeout", "1"]);
    assert_eq!(result(&output, "hangs"), "killed (hung)");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
}

#[test]
fn a_change_of_the_tree_reaches_the_scratch_copy() {
    let directory = fixture(&[("killed", "0x1", "3")]);
    assert_eq!(mutants(directory.path(), &[]).status.code(), Some(0));

    // Without the test the mutant survives.
    let (without_test, _) = LIB.split_once("#[test]").unwrap();
    fs::write(directory.path().join("src/lib.rs"), without_test).unwrap();
    fs::write(directory.path().join("tests.txt"), "new").unwrap();
    let output = mutants(directory.path(), &[]);
    assert_eq!(result(&output, "killed"), "SURVIVED");
    let scratch = directory.path().join("target/mutants/tree");
    assert!(scratch.join("tests.txt").exists());

    fs::remove_file(directory.path().join("tests.txt")).unwrap();
    mutants(directory.path(), &[]);
    assert!(!scratch.join("tests.txt").exists());
}

#[test]
fn tests_must_pass_without_a_mutant() {
    let directory = fixture(&[("killed", "0x1", "3")]);
    let wrong = LIB.replace("one(), 1", "one(), 7");
    fs::write(directory.path().join("src/lib.rs"), wrong).unwrap();
    let output = mutants(directory.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.contains("cargo test --lib fails without any mutant"), "{errors}");
}
