//! `--json`: whatever the command writes to standard error is JSON, a document a
//! line.

use std::fs;

use crate::support::{TestDir, guest};

/// A store with something wrong in it, components and manifests around it.
fn dir_of_trouble() -> TestDir {
    let dir = TestDir::with_file_store();
    dir.run(&["put", "app/notes/home", "key", "value"]);
    dir.run(&["put", "app/notes/home", "damaged", "value"]);
    dir.run(&["--store", "file:other", "put", "app/notes/home", "key", "other"]);
    fs::write(dir.path().join("storage-data/components/app/notes/home/damaged"), "x").unwrap();
    let odd = dir.path().join("storage-data/components/app/notes/home%0aevil");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join("k"), "").unwrap();
    dir.file("text.wasm", b"(component)");
    fs::copy(guest("probe"), dir.path().join("probe.wasm")).unwrap();
    dir.component("endless");
    dir.file("wrong.toml", b"quotas = 1\n");
    dir.file(
        "storage.toml",
        br#"
store = "file:./storage-data"
quota = { bytes = 1 }

[[component]]
id = "app/notes/home"
wasm = "probe.wasm"
grants = [{ owner = "app/unknown/1", prefix = "shared", access = "read" }]
presets = { greeting = "hello" }
"#,
    );
    dir
}

#[track_caller]
fn assert_json_lines(stderr: &[u8], args: &[&str]) -> Vec<serde_json::Value> {
    let said = std::str::from_utf8(stderr).unwrap();
    said.lines()
        .map(|line| match serde_json::from_str(line) {
            Ok(document @ serde_json::Value::Object(_)) => document,
            other => panic!("{args:?}: {line:?} is {other:?}, among:\n{said}"),
        })
        .collect()
}

#[test]
fn every_line_of_standard_error_is_json() {
    let dir = dir_of_trouble();
    let _held = dir.hold("file:held");
    let commands: &[&[&str]] = &[
        &[],
        &["nothing"],
        &["--wait", "soon", "components"],
        &["components"],
        &["components", "--what"],
        &["--store", "file:missing", "components"],
        &["--store", "nowhere", "components"],
        &["--store", "memory:", "components"],
        &["keys", "app/notes/home", "--limit", "1"],
        &["keys", "app/notes/home", "--limit", "0"],
        &["--store", "file:missing", "keys", "app/notes/home"],
        &["get", "app/notes/home", "missing"],
        &["get", "app/notes/home", "damaged"],
        &["get", "app/notes", "key"],
        &["get", "app/notes/home", ""],
        &["--config", "wrong.toml", "get", "app/notes/home", "key"],
        &["--config", "missing.toml", "get", "app/notes/home", "key"],
        &["put", "app/notes/home", "line\nbreak", "value"],
        &["--store", "file:new", "put", "app/notes/home", "key", "value"],
        &["--store", "file:held", "--wait", "0", "put", "app/notes/home", "key", "value"],
        &["--store", "file:held", "--wait", "1", "put", "app/notes/home", "key", "value"],
        &["--config", "storage.toml", "put", "app/notes/home", "key2", "value"],
        &["--store", "file:missing", "delete", "app/notes/home", "key"],
        &["--store", "file:held", "--wait", "0", "delete", "app/notes/home", "key"],
        &["usage", "app/notes"],
        &["--store", "file:missing", "usage", "app/notes/home"],
        &["copy", "--from", "file:storage-data", "--to", "file:target"],
        &["copy", "--from", "file:storage-data", "--to", "file:other"],
        &["copy", "--from", "file:held", "--to", "file:target"],
        &["copy", "--from", "file:missing", "--to", "file:target"],
        &["copy", "--from", "file:storage-data", "--to", "memory:"],
        &["copy", "--from", "file:storage-data"],
        &["verify"],
        &["--store", "file:missing", "verify"],
        &["check", "storage.toml"],
        &["check", "--strict", "storage.toml"],
        &["check", "wrong.toml"],
        &["check", "missing.toml"],
        &["doctor"],
        &["--store", "file:text.wasm", "doctor"],
        &["demo", "--store", "memory:"],
        &["demo", "--store", "file:held"],
        &["demo", "--config", "storage.toml"],
        &["run", "probe.wasm"],
        &["run", "--id", "a/b/c", "text.wasm"],
        &["run", "--id", "a/b/c", "missing.wasm"],
        &["run", "--id", "a/b/c", "--preset", "novalue", "probe.wasm"],
        &["run", "--id", "a/b/c", "probe.wasm", "trap"],
        &["run", "--id", "a/b/c", "--instances", "3", "probe.wasm", "trap"],
        &["run", "--id", "a/b/c", "--timeout", "1", "endless.wasm"],
        &["--store", "file:held", "run", "--id", "a/b/c", "probe.wasm", "list"],
        &["run", "--config", "storage.toml", "app/notes/home", "list"],
        &["run", "--config", "storage.toml", "app/other/1", "list"],
    ];
    for args in commands {
        // Log lines between the lines of the command.
        for level in ["error", "trace"] {
            let args = [&["--json"], *args].concat();
            let mut command = dir.command(&args);
            let output = command.env("STORAGE_HOST_LOG", level).output().unwrap();
            let lines = assert_json_lines(&output.stderr, &args);
            // What fails says why, in the last line.
            if output.status.code() != Some(0) {
                let error = lines.last().map(|line| &line["error"]);
                let Some(error) = error else { panic!("{args:?}: nothing is said") };
                assert!(error["kind"].is_string(), "{args:?}: {lines:?}");
                assert_eq!(error["exit_code"], output.status.code().unwrap(), "{args:?}");
            }
        }
    }
}
