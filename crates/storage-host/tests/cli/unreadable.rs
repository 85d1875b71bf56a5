//! Components that a user may not read, among others that the user may.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::locks::below;
use crate::support::{Done, TestDir};

/// A user without privileges.
const USER: u32 = 65_534;

/// A store of that user, with five components.
struct Shared {
    dir: TestDir,
}

impl Shared {
    /// `None`, with the reason, where this machine cannot.
    fn new() -> Option<Self> {
        let dir = TestDir::with_file_store();
        if dir.path().metadata().unwrap().uid() != 0 {
            println!("SKIPPED unreadable components: only root can run as another user");
            return None;
        }
        for id in ["a/b/c", "app/notes/home", "app/notes/work", "lost/x/y", "z/z/z"] {
            dir.printed(&["put", id, "key", "value"]);
        }
        let all = Command::new("chown").arg("-R").arg(USER.to_string()).arg(dir.path()).status();
        assert!(all.unwrap().success());
        let shared = Self { dir };
        // In a checkout that only root may enter, the other user cannot run the program.
        if let Err(error) = shared.command(&["--version"]).output() {
            println!("SKIPPED unreadable components: the user cannot run this: {error}");
            return None;
        }
        Some(shared)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.dir.command(args);
        command.uid(USER).gid(USER).env("XDG_CACHE_HOME", self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).output().unwrap())
    }

    /// Makes root the owner of a path in the store.
    fn hide(&self, path: &str) {
        let path = self.dir.path().join("storage-data").join(path);
        chown(&path, Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn components_lists_readable_and_names_unreadable_components() {
    let Some(shared) = Shared::new() else { return };
    shared.hide("components/app/notes/home");
    let done = shared.run(&["components"]);
    assert_eq!(done.stdout, "a/b/c\napp/notes/work\nlost/x/y\nz/z/z\n");
    assert_eq!(done.code, 1);
    let expected = "error: the list is incomplete: app/notes/home cannot be read: cannot list \
                    ./storage-data/components/app/notes/home: Permission denied (os error 13); ";
    assert!(done.stderr.starts_with(expected), "{}", done.stderr);
    assert!(
        done.stderr.contains("/components/app/notes/home belongs to user root (0) and group "),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains(" and has mode 0700, and this process runs as user "));

    // Everything below a directory that cannot be listed.
    shared.hide("components/lost");
    let done = shared.run(&["components"]);
    assert_eq!(done.stdout, "a/b/c\napp/notes/work\nz/z/z\n");
    assert!(
        done.stderr.starts_with("error: the list is incomplete: 2 components cannot be read:\n"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("\n  app/notes/home: cannot list "), "{}", done.stderr);
    assert!(done.stderr.contains("\n  components below lost: cannot list "), "{}", done.stderr);

    let done = shared.run(&["--json", "components"]);
    assert_eq!(done.code, 1);
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(document["components"], json!(["a/b/c", "app/notes/work", "z/z/z"]));
    let ids: Vec<&str> = document["unreadable"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["app/notes/home", "lost"]);
    let error: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "unreadable");
}

#[test]
fn a_component_with_a_failing_disk_is_named() {
    let dir = TestDir::with_file_store();
    for id in ["a/b/c", "app/notes/home", "z/z/z"] {
        dir.printed(&["put", id, "key", "value"]);
    }
    let path = fs::canonicalize(dir.path()).unwrap();
    let path = path.join("storage-data/components/app/notes/home");
    let store = format!("file:{}", path.ancestors().nth(4).unwrap().display());
    let fail = format!(
        "strace -f -qq -o /dev/null -P {} -e trace=openat -e inject=openat:error=EIO",
        path.display()
    );
    let fail: Vec<&str> = fail.split(' ').collect();
    let failed = |args: &[&str]| below(&dir, &fail, args);
    let Some(done) = failed(&["--store", &store, "components"]) else { return };
    assert_eq!((done.code, &*done.stdout), (1, "a/b/c\nz/z/z\n"));
    let named = "app/notes/home cannot be read: cannot list ";
    assert!(done.stderr.contains(named), "{}", done.stderr);
    assert!(done.stderr.contains("Input/output error (os error 5)"), "{}", done.stderr);
    let done = failed(&["copy", "--from", &store, "--to", "redb:target"]).unwrap();
    assert!(done.code == 1 && done.stderr.contains(named), "{}", done.stderr);
    let done = failed(&["--store", &store, "doctor"]).unwrap();
    let expected = format!("{}: Input/output error (os error 5)", path.display());
    assert!(done.stdout.contains(&expected), "{}", done.stdout);
}

#[test]
fn copy_of_an_unreadable_component_creates_no_target() {
    let Some(shared) = Shared::new() else { return };
    shared.hide("components/app/notes/home");
    let done = shared.run(&["copy", "--from", "file:storage-data", "--to", "redb:target"]);
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.starts_with(
            "error: cannot copy the source: app/notes/home cannot be read: cannot list "
        ),
        "{}",
        done.stderr
    );
    assert!(!shared.dir.path().join("target").exists());
}

#[test]
fn an_unreadable_component_does_not_affect_others() {
    let Some(shared) = Shared::new() else { return };
    shared.hide("components/app/notes/home");
    for (args, code) in [
        (&["put", "app/notes/work", "key", "new"][..], 0),
        (&["get", "app/notes/work", "key"], 0),
        (&["keys", "z/z/z"], 0),
        (&["keys", "app/notes/home"], 1),
        (&["usage", "app/notes/home"], 1),
        (&["get", "app/notes/home", "key"], 1),
        (&["put", "app/notes/home", "key", "new"], 1),
    ] {
        let done = shared.run(args);
        assert_eq!(done.code, code, "{args:?}: {}", done.stderr);
        let named = done.stderr.contains("/components/app/notes/home belongs to user root (0)");
        assert_eq!(named, code == 1, "{args:?}: {}", done.stderr);
    }
}

#[test]
fn doctor_names_unreadable_paths() {
    let Some(shared) = Shared::new() else { return };
    let findings = |shared: &Shared| -> Vec<Value> {
        let done = shared.run(&["--json", "doctor"]);
        assert_eq!(done.code, 0, "the rest can be used: {}", done.stderr);
        let document: Value = serde_json::from_str(&done.stdout).unwrap();
        let findings = document["findings"].as_array().unwrap().iter();
        findings.filter(|finding| finding["code"] == "unreadable").cloned().collect()
    };
    assert_eq!(findings(&shared), Vec::<Value>::new());
    shared.hide("components/app/notes/home");
    shared.hide("components/z/z/z/key");
    let found = findings(&shared);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    let text = finding["text"].as_str().unwrap();
    for path in ["components/app/notes/home", "components/z/z/z/key"] {
        assert!(text.contains(path), "{text}");
    }
    assert!(text.contains("belongs to user root (0)"), "{text}");
}

/// A store whose root or engine's file another user owns.
#[test]
fn errors_name_the_owner_of_a_store() {
    let Some(shared) = Shared::new() else { return };
    let made = shared.run(&["--store", "redb:data", "put", "a/b/c", "key", "value"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let file = shared.dir.path().join("data");
    chown(&file, Some(0), Some(0)).unwrap();
    fs::set_permissions(shared.dir.path().join("storage-data"), mode(0o700)).unwrap();
    chown(shared.dir.path().join("storage-data"), Some(0), Some(0)).unwrap();
    for store in ["redb:data", "file:storage-data"] {
        let path = Path::new(store.split(':').nth(1).unwrap());
        for args in [&["get", "a/b/c", "key"][..], &["put", "a/b/c", "key", "new"], &["doctor"]] {
            let done = shared.run(&[&["--store", store], args].concat());
            assert_eq!(done.code, 1, "{args:?}: {}", done.stderr);
            let said = format!("{}{}", done.stdout, done.stderr);
            let expected = format!("{} belongs to user root (0)", path.display());
            assert!(said.contains(&expected), "{args:?}: {said}");
        }
    }
}

fn mode(mode: u32) -> fs::Permissions {
    fs::Permissions::from_mode(mode)
}
