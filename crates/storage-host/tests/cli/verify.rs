//! `verify`: what it reports, and that it changes nothing.

use std::fs;

use rstest::rstest;

use crate::support::TestDir;

/// Three keys of two components.
fn filled() -> TestDir {
    let dir = TestDir::with_file_store();
    dir.printed(&["put", "app/notes/home", "user:1", "Ada"]);
    dir.printed(&["put", "app/notes/home", "user:2", "Grace"]);
    dir.printed(&["put", "app/notes/work", "user:1", "Alan"]);
    dir
}

#[test]
fn problems_are_listed() {
    let dir = filled();
    let mut text = dir.transcripts(&[&["verify"], &["verify", "--json"]]);
    let home = dir.path().join("storage-data/components/app/notes/home");
    let mut bytes = fs::read(home.join("user%3a1")).unwrap();
    bytes[15] ^= 1;
    fs::write(home.join("user%3a1"), bytes).unwrap();
    fs::write(home.join("notes\n.txt"), "mine").unwrap();
    let before = dir.tree("storage-data");
    text += "\n";
    text += &dir.transcripts(&[
        &["verify"],
        &["--json", "verify"],
        &["--store", "file:missing", "verify"],
        &["--store", "memory:", "verify"],
    ]);
    dir.assert_snapshot("verify", &text);
    assert_eq!(dir.tree("storage-data"), before);
    assert!(!dir.path().join("missing").exists());
}

#[test]
fn json_lists_the_problems() {
    let dir = filled();
    let document = |expected| -> serde_json::Value {
        let done = dir.run(&["--json", "verify"]);
        assert_eq!(done.code, expected);
        serde_json::from_str(&done.stdout).unwrap()
    };
    let whole = document(0);
    assert_eq!(whole["problems"].as_array().unwrap().len(), 0);
    assert_eq!((&whole["key_count"], &whole["component_count"]), (&3.into(), &2.into()));
    assert_eq!((&whole["problem_count"], &whole["warning_count"]), (&0.into(), &0.into()));
    let home = "storage-data/components/app/notes/home";
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.path().join("storage-data"), open).unwrap();
    }
    for name in ["\"quoted\"", "b", "c"] {
        fs::write(dir.path().join(home).join(name), "mine").unwrap();
    }
    let damaged = document(1);
    let problems = damaged["problems"].as_array().unwrap();
    // The name of the first cannot be a key; those of the others can.
    let kinds: Vec<_> = problems.iter().map(|problem| problem["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["foreign_file", "damage", "damage", "permissions"]);
    assert_eq!((&damaged["problem_count"], &damaged["warning_count"]), (&2.into(), &2.into()));
    assert!(problems[0]["place"].as_str().unwrap().ends_with("home/\"quoted\""));
    assert!(problems[0]["key"].is_null());
}

#[rstest]
#[case::file("file:data")]
#[cfg_attr(feature = "redb", case::redb("redb:data"))]
#[cfg_attr(feature = "rocksdb", case::rocksdb("rocksdb:data"))]
fn damage_is_found_in_every_kind_of_store(#[case] store: &str) {
    let dir = TestDir::with_file_store();
    dir.printed(&["--store", store, "put", "a/b/c", "key", "a value that is long enough"]);
    let before = dir.tree("data");
    let printed = dir.printed(&["--store", store, "verify"]);
    assert_eq!(printed, "no problems found: 1 key of 1 component, 36 bytes\n");
    assert_eq!(dir.tree("data"), before, "{store}");

    // Damage the value in whichever file holds it.
    for (path, mut bytes) in before {
        let value = b"a value that is long enough";
        let Some(at) = bytes.windows(value.len()).position(|some| some == value) else { continue };
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    let damaged = dir.tree("data");
    let done = dir.run(&["--store", store, "verify"]);
    assert_eq!(done.code, 1, "{store}: {}", done.stdout);
    let complaint = done.stderr.contains("problem") || done.stderr.contains("corrupt");
    assert!(complaint, "{store}: {}", done.stderr);
    assert_eq!(dir.tree("data"), damaged, "{store}");
}

#[test]
fn a_store_in_use_can_be_verified() {
    let dir = filled();
    let url = storage_host::StoreUrl::from_path(dir.path().join("storage-data"));
    let _held = url.open(storage_host::Mode::ReadWrite).unwrap();
    let printed = dir.printed(&["verify"]);
    assert!(printed.starts_with("no problems found: 3 keys of 2 components"), "{printed}");
}

/// What other programs leave in any directory.
const FOREIGN: [&str; 8] = [
    ".DS_Store",
    "._note",
    ".nfs000000000000000a",
    "Thumbs.db",
    "user%3a1~",
    ".user.swp",
    "A",
    "#a#",
];

#[test]
fn foreign_files_are_harmless_warnings() {
    let dir = filled();
    for place in [".", "components", "components/app", "components/app/notes/home", "journal"] {
        for name in FOREIGN {
            fs::write(dir.path().join("storage-data").join(place).join(name), "x").unwrap();
        }
    }
    fs::create_dir(dir.path().join("storage-data/lost+found")).unwrap();
    let before = dir.tree("storage-data");
    let done = dir.run(&["verify"]);
    assert_eq!((done.code, &*done.stderr), (0, ""), "{}", done.stdout);
    let lines: Vec<&str> = done.stdout.lines().collect();
    let (last, warnings) = lines.split_last().unwrap();
    assert_eq!(*last, "no problems found: 3 keys of 2 components, 75 bytes; 41 warnings");
    assert_eq!(warnings.len(), 41);
    assert!(warnings.iter().all(|line| line.starts_with("warning: ") && line.contains("ignored")));

    let strict = dir.run(&["verify", "--strict"]);
    assert_eq!((strict.code, strict.stdout), (1, done.stdout));
    assert!(strict.stderr.contains("41 warnings in the store"), "{}", strict.stderr);
    let json = dir.run(&["--json", "verify", "--strict"]);
    assert_eq!(json.code, 1);
    let error: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "warnings");
    let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["warning_count"], 41);

    let keys = dir.printed(&["keys", "app/notes/home"]);
    assert_eq!(keys, "user:1\nuser:2\n");
    assert_eq!(dir.printed(&["components"]).lines().count(), 2);
    dir.printed(&["copy", "--from", "file:storage-data", "--to", "file:other"]);
    assert_eq!(
        dir.printed(&["--store", "file:other", "verify", "--strict"]),
        "no problems found: 3 keys of 2 components, 75 bytes\n"
    );
    dir.printed(&["put", "app/notes/home", "user:3", "x"]);
    dir.printed(&["delete", "app/notes/home", "user:3"]);
    let foreign =
        |(path, _): &(std::path::PathBuf, Vec<u8>)| FOREIGN.iter().any(|name| path.ends_with(name));
    let left: Vec<_> = dir.tree("storage-data").into_iter().filter(foreign).collect();
    assert_eq!(left, before.into_iter().filter(foreign).collect::<Vec<_>>());
}

#[test]
fn an_undamaged_store_passes_strictly() {
    let printed = filled().printed(&["verify", "--strict"]);
    assert!(printed.starts_with("no problems found"), "{printed}");
}

#[cfg(unix)]
#[test]
fn a_linked_directory_fails_every_command() {
    let dir = filled();
    let linked = dir.path().join("storage-data/components/app");
    fs::rename(&linked, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &linked).unwrap();
    let copy = ["copy", "--from", "file:storage-data", "--to", "file:other"];
    let commands: [&[&str]; 6] = [
        &copy,
        &["components"],
        &["keys", "app/notes/home"],
        &["get", "app/notes/home", "user:1"],
        &["put", "app/notes/home", "user:1", "x"],
        &["verify"],
    ];
    for command in commands {
        let done = dir.run(command);
        assert_eq!(done.code, 1, "{command:?}: {}", done.stdout);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("components/app"), "{command:?}: {said}");
        assert!(said.contains("is a symbolic link"), "{command:?}: {said}");
    }
    assert!(!dir.path().join("other").exists());
}
