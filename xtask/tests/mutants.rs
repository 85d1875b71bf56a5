//! `cargo xtask mutants` on a small crate of its own: every verdict, and that
//! the checkout is left as it was.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const LIB: &str = "\
//! A crate to break.

pub fn noticed() -> u32 {
    1
}

#[test]
fn noticed_is_one() {
    assert_eq!(noticed(), 1);
}
";

/// A workspace in a repository of its own, with these mutants.
fn fixture(mutants: &[(&str, &str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "[package]\nname = \"fixture\"\nedition = \"2024\"\n\n[workspace]\n");
    write(".gitignore", "target\nCargo.lock\n");
    write("src/lib.rs", LIB);
    for (name, old, new) in mutants {
        let patch = format!(
            "# breaks: {name}\n# matters: it is a test\n# tests: --lib\n\
             --- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -3,3 +3,3 @@\n \
             pub fn noticed() -> u32 {{\n-    {old}\n+    {new}\n }}\n"
        );
        write(&format!("xtask/mutants/{name}.patch"), &patch);
    }
    let init = Command::new("git").args(["init", "--quiet"]).current_dir(&folder).status();
    assert!(init.unwrap().success());
    folder
}

fn mutants(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("mutants")
        .args(arguments)
        .current_dir(folder)
        // The fixture builds in its own target folder, wherever this one is.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .output()
        .unwrap()
}

/// The verdict that the table gives for a mutant.
fn verdict(output: &Output, name: &str) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().find(|line| line.ends_with(&format!("  {name}")));
    let row = row.unwrap_or_else(|| panic!("no row for {name} in:\n{text}"));
    row.trim_start().chars().take(13).collect::<String>().trim_end().to_owned()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_mutant_gets_its_verdict() {
    let folder = fixture(&[
        ("broken", "1", "\"one\""),
        ("killed", "1", "3"),
        ("stale", "4", "5"),
        ("survives", "1", "2 - 1"),
    ]);
    let output = mutants(folder.path(), &[]);

    assert_eq!(verdict(&output, "broken"), "BROKEN");
    assert_eq!(verdict(&output, "killed"), "killed");
    assert_eq!(verdict(&output, "stale"), "STALE");
    assert_eq!(verdict(&output, "survives"), "SURVIVED");
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.contains("3 of 4 mutants were not killed"), "{errors}");
    assert!(errors.contains("mismatched types"), "{errors}");
    assert!(errors.contains("passed   cargo test --lib"), "{errors}");

    assert_eq!(fs::read_to_string(folder.path().join("src/lib.rs")).unwrap(), LIB);
    let scratch = folder.path().join("target/mutants/tree/src/lib.rs");
    assert_eq!(fs::read_to_string(scratch).unwrap(), LIB);
}

#[test]
fn one_mutant_can_be_tried_alone() {
    let folder = fixture(&[("killed", "1", "3"), ("survives", "1", "2 - 1")]);
    let output = mutants(folder.path(), &["killed"]);
    assert_eq!(verdict(&output, "killed"), "killed");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));

    let output = mutants(folder.path(), &["kiled"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("there is no mutant kiled"));
}

#[test]
fn tests_that_hang_have_noticed() {
    let folder = fixture(&[("hangs", "1", "loop {}")]);
    let output = mutants(folder.path(), &["--timeout", "1"]);
    assert_eq!(verdict(&output, "hangs"), "killed (hung)");
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
}

#[test]
fn a_change_of_the_tree_reaches_the_scratch_copy() {
    let folder = fixture(&[("killed", "1", "3")]);
    assert_eq!(mutants(folder.path(), &[]).status.code(), Some(0));

    // The test that noticed is gone, and so is a file that was there.
    let (without_test, _) = LIB.split_once("#[test]").unwrap();
    fs::write(folder.path().join("src/lib.rs"), without_test).unwrap();
    fs::write(folder.path().join("tests.txt"), "new").unwrap();
    let output = mutants(folder.path(), &[]);
    assert_eq!(verdict(&output, "killed"), "SURVIVED");
    let scratch = folder.path().join("target/mutants/tree");
    assert!(scratch.join("tests.txt").exists());

    fs::remove_file(folder.path().join("tests.txt")).unwrap();
    mutants(folder.path(), &[]);
    assert!(!scratch.join("tests.txt").exists());
}

#[test]
fn tests_that_fail_without_a_mutant_prove_nothing() {
    let folder = fixture(&[("killed", "1", "3")]);
    let wrong = LIB.replace("noticed(), 1", "noticed(), 7");
    fs::write(folder.path().join("src/lib.rs"), wrong).unwrap();
    let output = mutants(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let errors = errors(&output);
    assert!(errors.contains("cargo test --lib fails without any mutant"), "{errors}");
}
