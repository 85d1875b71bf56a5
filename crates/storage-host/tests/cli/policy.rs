//! `--config` beside every command that opens a store: the manifest's store, quotas
//! and limits apply, as they do for the components themselves.

use crate::support::TestDir;

/// A directory with a manifest whose store is of kind `engine`.
fn dir_with_manifest(engine: &str) -> TestDir {
    let dir = TestDir::new();
    let manifest = format!(
        r#"
store = "{engine}:./data"
quota = {{ bytes = 50 }}
limits = {{ value_bytes = 20, key_bytes = 9 }}

[[component]]
id = "app/notes/home"
quota = {{ bytes = 30, keys = 2 }}
limits = {{ key_bytes = 5 }}
"#
    );
    dir.file("storage.toml", manifest.as_bytes());
    dir
}

fn engines() -> impl Iterator<Item = &'static str> {
    [
        ("file", cfg!(feature = "file")),
        ("redb", cfg!(feature = "redb")),
        ("rocksdb", cfg!(feature = "rocksdb")),
    ]
    .into_iter()
    .filter_map(|(engine, is_built)| is_built.then_some(engine))
}

#[test]
fn commands_apply_the_manifest() {
    let dir = dir_with_manifest("file");
    let config = ["--config", "storage.toml"];
    let with = |args: &[&'static str]| [&config, args].concat();
    let text = dir.transcripts(&[
        &with(&["put", "app/notes/home", "key", "12345678901234567890"]),
        // A component of the manifest, and one that has its defaults.
        &with(&["put", "app/notes/home", "key2", "1234"]),
        &with(&["put", "app/notes/home", "key2", "123"]),
        &with(&["put", "app/notes/home", "key3", ""]),
        &with(&["put", "app/notes/home", "longkey", ""]),
        &with(&["put", "app/notes/home", "key", "123456789012345678901"]),
        &with(&["--json", "put", "app/notes/home", "key", "123456789012345678901"]),
        &with(&["put", "app/other/1", "longkey", "12345678901234567890"]),
        &with(&["put", "app/other/1", "longkey2", "12345678901234567890"]),
        &with(&["--json", "put", "app/other/1", "longkey2", "12345678901234567890"]),
        &with(&["usage", "app/notes/home"]),
        &with(&["--json", "usage", "app/notes/home"]),
        &with(&["usage", "app/other/1"]),
        &with(&["usage", "app/unknown/1", "--json"]),
        &with(&["keys", "app/notes/home"]),
        &with(&["get", "app/notes/home", "key2"]),
        &with(&["components"]),
        // A delete that frees space is allowed.
        &with(&["delete", "app/notes/home", "key"]),
        &with(&["put", "app/notes/home", "key3", "1"]),
        &with(&["verify"]),
        // Without the manifest, its limits do not apply.
        &["--store", "file:./data", "put", "app/notes/home", "longkey", "123456789012345678901"],
        &["--store", "file:./data", "usage", "app/notes/home"],
        &["put", "--config", "storage.toml", "app/notes/home", "key3", "12"],
        &["put", "--config", "storage.toml", "app/notes/home", "key3", ""],
    ]);
    dir.assert_snapshot("policy", &text);
    assert!(!dir.has_store(), "the default store was not asked for");
}

#[test]
fn quotas_and_limits_apply_on_every_engine() {
    for engine in engines() {
        let dir = dir_with_manifest(engine);
        let put = |key: &str, value: &str| {
            let args = ["--config", "storage.toml", "--json", "put", "app/notes/home", key, value];
            let done = dir.run(&args);
            (done.code, done.stderr)
        };
        assert_eq!(put("a", "12345678901234567890"), (0, String::new()), "{engine}");
        for (key, value, code, kind) in [
            ("b", "123456789", 1, "quota_exceeded"),
            ("b", "123456789012345678901", 1, "limit_exceeded"),
            ("long-1", "", 2, "invalid_key"),
        ] {
            let (found, stderr) = put(key, value);
            assert_eq!(found, code, "{engine}: {stderr}");
            assert!(stderr.contains(&format!("\"kind\":\"{kind}\"")), "{engine}: {stderr}");
        }
        assert_eq!(put("b", "12345678"), (0, String::new()), "{engine}: to the last byte");
        assert_eq!(put("c", "").0, 1, "{engine}: the number of keys");
    }
}

#[test]
fn values_over_the_limit_create_no_store() {
    let dir = dir_with_manifest("file");
    for (key, value) in [("key", "123456789012345678901"), ("longkey", "")] {
        let done = dir.run(&["--config", "storage.toml", "put", "app/notes/home", key, value]);
        assert_ne!(done.code, 0);
        assert!(!dir.path().join("data").exists(), "{}", done.stderr);
    }
    let long = vec![b'x'; 1 << 16];
    let done =
        dir.run_with_input(&["--config", "storage.toml", "put", "app/notes/home", "key"], &long);
    assert_eq!(done.stderr, "error: 21 bytes of a value are over the limit of 20\n");
}

#[test]
fn the_store_is_chosen_by_option_manifest_then_environment() {
    let dir = dir_with_manifest("file");
    dir.file("no-store.toml", b"quota = { bytes = 10 }\n");
    let put = |args: &[&str]| {
        let mut command = dir.command(&[args, &["put", "a/b/c", "k", "v"]].concat());
        command.env("STORAGE_HOST_STORE", "file:./environment");
        assert!(command.output().unwrap().status.success(), "{args:?}");
    };
    let is_there = |store: &str| dir.path().join(store).exists();
    put(&["--config", "storage.toml"]);
    assert!(is_there("data") && !is_there("environment"));
    put(&["--config", "storage.toml", "--store", "file:./option"]);
    assert!(is_there("option") && !is_there("environment"));
    put(&["--config", "no-store.toml"]);
    assert!(is_there("environment") && !dir.has_store());
}

#[test]
fn doctor_reports_the_store_of_the_manifest() {
    let dir = dir_with_manifest("file");
    let doctor = dir.run(&["doctor", "--config", "storage.toml", "--json"]);
    assert_eq!(doctor.code, 0, "{}", doctor.stderr);
    let found: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert_eq!(found["store"]["url"], "file:./data");
    assert_eq!(found["store"]["chosen_by"], "manifest");
    let doctor = dir.run(&["doctor", "--config", "storage.toml"]);
    assert!(doctor.stdout.contains("file:./data, by the manifest\n"), "{}", doctor.stdout);
    let mut command = dir.command(&["doctor", "--config", "storage.toml"]);
    let output = command.env("STORAGE_HOST_STORE", "file:./other").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("which commands without --config use"), "{said}");
}

#[test]
fn commands_without_a_manifest_refuse_config() {
    let dir = dir_with_manifest("file");
    dir.file("no-store.toml", b"quota = { bytes = 10 }\n");
    dir.file("wrong.toml", b"quotas = 1\n");
    let text = dir.transcripts(&[
        &["--config", "no-store.toml", "put", "a/b/c", "k", "v"],
        &["--config", "wrong.toml", "get", "a/b/c", "k"],
        &["--config", "missing.toml", "--json", "components"],
        &["--config", "storage.toml", "demo"],
        &["copy", "--config", "storage.toml", "--from", "file:a", "--to", "file:b"],
        &["check", "--config", "storage.toml", "storage.toml"],
        &["--config", "storage.toml", "run", "--id", "a/b/c", "notes.wasm"],
        &["--json", "run", "notes.wasm"],
    ]);
    dir.assert_snapshot("policy_refused", &text);
    assert!(!dir.has_store() && !dir.path().join("data").exists());
}

#[test]
fn config_may_precede_or_follow_run() {
    let dir = dir_with_manifest("file");
    let before = dir.run(&["--config", "storage.toml", "run", "app/notes/home"]);
    let behind = dir.run(&["run", "--config", "storage.toml", "app/notes/home"]);
    assert_eq!((before.code, &before.stderr), (behind.code, &behind.stderr));
    assert!(before.stderr.contains("names no file for component app/notes/home"));
}
