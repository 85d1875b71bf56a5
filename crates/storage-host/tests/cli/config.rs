//! Manifests: `run --config`, `check`, presets and instances.

use crate::support::{TestDir, guest};

/// A manifest with all fields, in a directory with its components.
fn write_manifest(dir: &TestDir) -> String {
    for name in ["notes", "probe"] {
        std::fs::copy(guest(name), dir.path().join(format!("{name}.wasm"))).unwrap();
    }
    dir.file(
        "storage.toml",
        br#"
store = "file:./data?durability=os"
quota = { bytes = 1_000_000 }
limits = { value_bytes = 5_000 }

[cache]
shared = true
max_size_bytes = 33_554_432
ttl = 30

[[component]]
id = "app/notes/home"
wasm = "notes.wasm"

[[component]]
id = "app/probe/1"
wasm = "probe.wasm"
quota = { bytes = 1_000, keys = 3 }
limits = { value_bytes = 500, key_bytes = 20 }
cache = { max_entries = 10, ttl = "none" }
grants = [{ owner = "app/notes/home", prefix = "note/", access = "read" }]
presets = { greeting = "hello", "with space" = "=" }

[[component]]
id = "app/data/only"
"#,
    )
}

#[test]
fn a_component_runs_as_the_manifest_says() {
    let dir = TestDir::new();
    write_manifest(&dir);
    let text = dir.transcripts(&[
        &["check", "storage.toml"],
        &["--json", "check", "storage.toml"],
        &["run", "--config", "storage.toml", "app/notes/home", "--", "add", "buy milk"],
        &["run", "--config", "storage.toml", "app/notes/home", "list"],
        &["run", "--config", "storage.toml", "app/probe/1", "--", "get", "greeting"],
        &[
            "run",
            "--config",
            "storage.toml",
            "--preset",
            "greeting=hi",
            "app/probe/1",
            "get",
            "greeting",
        ],
        &["run", "--config", "storage.toml", "app/probe/1", "usage"],
        &["run", "--config", "storage.toml", "app/probe/1", "set-size", "big", "501"],
        &[
            "run",
            "--config",
            "storage.toml",
            "app/probe/1",
            "set",
            "a-key-longer-than-20-bytes",
            "x",
        ],
        &["run", "--config", "storage.toml", "app/probe/1", "fill", "3"],
        &["--store", "file:./data", "components"],
    ]);
    dir.assert_snapshot("config_run", &text);
    assert!(!dir.has_store(), "the default store was not asked for");
}

#[test]
fn the_option_overrides_the_manifest_which_overrides_the_environment() {
    let dir = TestDir::new();
    write_manifest(&dir);
    let add = ["run", "--config", "storage.toml", "app/notes/home", "add", "x"];
    let mut command = dir.command(&add);
    command.env("STORAGE_HOST_STORE", "file:./environment");
    assert!(command.status().unwrap().success());
    assert!(dir.path().join("data").exists());
    assert!(!dir.path().join("environment").exists());
    dir.printed(&[
        "--store",
        "file:./line",
        "run",
        "--config",
        "storage.toml",
        "app/notes/home",
        "add",
        "x",
    ]);
    assert!(dir.path().join("line").exists());
}

#[test]
fn a_manifest_without_a_store_needs_one_from_elsewhere() {
    let dir = TestDir::new();
    std::fs::copy(guest("notes"), dir.path().join("notes.wasm")).unwrap();
    dir.file("storage.toml", b"[[component]]\nid = 'app/notes/home'\nwasm = 'notes.wasm'\n");
    let add = ["run", "--config", "storage.toml", "app/notes/home", "add", "x"];
    let text = dir.transcripts(&[
        &add,
        &["check", "storage.toml"],
        &["--store", "file:./line", "check", "storage.toml"],
        &[&["--store", "file:./line"], &add[..]].concat(),
    ]);
    dir.assert_snapshot("config_no_store", &text);
    let mut command = dir.command(&add);
    command.env("STORAGE_HOST_STORE", "file:./environment");
    assert!(command.status().unwrap().success());
    for (store, is_there) in [("line", true), ("environment", true), ("storage-data", false)] {
        assert_eq!(dir.path().join(store).exists(), is_there, "{store}");
    }
}

#[test]
fn errors_of_a_manifest_name_the_line() {
    let dir = TestDir::new();
    dir.file("text.wasm", b"(component)");
    let wrong = [
        ("syntax", "store = "),
        ("no_store", "[cache]\nshared = true"),
        ("unknown", "store = 'memory:'\nquotas = 1"),
        ("unknown_inside", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nwsam = 'x'"),
        ("store", "store = 'nowhere'"),
        ("id", "store = 'memory:'\n[[component]]\nid = 'a/b'"),
        ("twice", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\n[[component]]\nid = 'a/b/c'"),
        (
            "own",
            "store = 'memory:'\n[[component]]\nid = 'a/b/c'\ngrants = [{ owner = 'a/b/c', prefix = '', access = 'read' }]",
        ),
        (
            "access",
            "store = 'memory:'\n[[component]]\nid = 'a/b/c'\ngrants = [{ owner = 'a/b/d', prefix = '', access = 'write' }]",
        ),
        ("ttl", "store = 'memory:'\n[cache]\nttl = 'never'"),
        ("timeout", "store = 'memory:'\ntimeout = 0\n[[component]]\nid = 'a/b/c'"),
        ("number", "store = 'memory:'\nquota = { bytes = -1 }"),
        ("preset", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\npresets = { '' = 'x' }"),
        (
            "granted_twice",
            "store = 'memory:'\n[[component]]\nid = 'a/b/c'\ngrants = [{ owner = 'a/b/d', prefix = 'x', access = 'read' }, { owner = 'a/b/d', prefix = 'x', access = 'read-write' }]",
        ),
        (
            "grant_prefix",
            "store = 'memory:'\n[[component]]\nid = 'a/b/c'\ngrants = [{ owner = 'a/b/d', prefix = \"x\\n\", access = 'read' }]",
        ),
        (
            "preset_value",
            "store = 'memory:'\nlimits = { value_bytes = 2 }\n[[component]]\nid = 'a/b/c'\npresets = { a = 'xyz' }",
        ),
        ("config", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nconfig = { port = 80 }"),
        (
            "config_table",
            "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nconfig.db = { url = 'x' }",
        ),
        (
            "config_size",
            &format!(
                "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nconfig = {{ a = '{}' }}",
                "x".repeat(1 << 20)
            ),
        ),
        ("file", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nwasm = 'missing.wasm'"),
        ("no_wasm", "store = 'memory:'\n[[component]]\nid = 'a/b/c'\nwasm = 'text.wasm'"),
    ];
    let mut text = String::new();
    for (name, manifest) in wrong {
        let file = format!("{name}.toml");
        dir.file(&file, manifest.as_bytes());
        text.push_str(&dir.transcript(&["check", &file]));
        text.push('\n');
    }
    text.push_str(&dir.transcript(&["check", "missing.toml"]));
    dir.assert_snapshot("config_wrong", &text);
    assert!(!dir.has_store());
}

#[test]
fn components_that_a_manifest_cannot_run_are_errors() {
    let dir = TestDir::new();
    write_manifest(&dir);
    let text = dir.transcripts(&[
        &["run", "--config", "storage.toml", "app/other/1"],
        &["run", "--config", "storage.toml", "app/data/only"],
        &["run", "--config", "storage.toml", "notes.wasm"],
        &["run", "--config", "storage.toml", "--id", "a/b/c", "notes.wasm"],
        &["run", "notes.wasm"],
        &["run", "--id", "a/b/c", "--preset", "novalue", "notes.wasm"],
        &["run", "--id", "a/b/c", "--preset", "=x", "notes.wasm"],
        &["run", "--id", "a/b/c", "--instances", "0", "notes.wasm"],
    ]);
    dir.assert_snapshot("config_cannot", &text);
}

#[test]
fn presets_are_set_before_the_start() {
    let dir = TestDir::new();
    let probe = guest("probe");
    let run = |args: &[&str]| {
        dir.printed(
            &[&["run", "--id", "a/b/c", "--preset", "a=1", "--preset", "b=x=y", &probe], args]
                .concat(),
        )
    };
    assert_eq!(run(&["get", "a"]), "value 1\n");
    assert_eq!(run(&["get", "b"]), "value x=y\n");
    // The component gets what looks like options of run.
    for argument in ["--preset", "--help", "--json", "--instances=7", "--"] {
        let done = dir.run(&["run", "--id", "a/b/c", &probe, argument, "a=2"]);
        assert_eq!(done.code, 2, "{argument}: {}", done.stderr);
        assert!(done.stderr.contains("usage: probe"), "{argument}: {}", done.stderr);
    }
    assert_eq!(dir.printed(&["get", "a/b/c", "a"]), "1");
}

#[test]
fn instances_share_the_storage_and_the_worst_status_counts() {
    let dir = TestDir::new();
    let (notes, probe) = (guest("notes"), guest("probe"));
    let out = dir.printed(&["run", "--id", "a/b/c", "--instances", "8", &notes, "add", "x"]);
    assert_eq!(out.lines().count(), 8, "{out}");
    let listed = dir.printed(&["run", "--id", "a/b/c", &notes, "list"]);
    assert_eq!(listed.lines().count(), 8, "{listed}");
    let done = dir.run(&["run", "--id", "a/b/c", "--instances", "3", &probe, "exit", "7"]);
    assert_eq!(done.code, 7);
    let done = dir.run(&["run", "--id", "a/b/c", "--instances", "3", &probe, "trap"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("a/b/c trapped"), "{}", done.stderr);
}

#[test]
fn check_warns_of_likely_mistakes() {
    let dir = TestDir::new();
    dir.file(
        "warned.toml",
        br#"
store = "file:./data"

[[component]]
id = "app/notes/home"

[[component]]
id = "app/report/1"
quota = { bytes = 10 }
grants = [
    { owner = "app/notes/home", prefix = "shared", access = "read-write" },
    { owner = "app/notes/home", prefix = "shared/secret/", access = "read" },
    { owner = "app/notes/home", prefix = "", access = "read" },
    { owner = "app/notes/hom", prefix = "line/", access = "read" },
]
presets = { greeting = "hello" }

[[component]]
id = "app/report/2"
quota = { keys = 1 }
grants = [{ owner = "app/notes/home", prefix = "shared/", access = "read" }]
presets = { a = "1", b = "2" }
"#,
    );
    write_manifest(&dir);
    let text = dir.transcripts(&[
        &["check", "warned.toml"],
        &["check", "--strict", "warned.toml"],
        &["--json", "check", "warned.toml"],
        &["--json", "check", "warned.toml", "--strict"],
        // What has no warning passes.
        &["check", "--strict", "storage.toml"],
        &["--json", "check", "--strict", "storage.toml"],
    ]);
    dir.assert_snapshot("config_warnings", &text);
    assert!(!dir.path().join("data").exists());
}
