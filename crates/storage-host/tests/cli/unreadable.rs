//! Components that a user may not read, among others that the user may.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::TestDir;

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
        // A checkout that only root may enter holds a program that only root may run.
        if let Err(error) = shared.command(&["--version"]).output() {
            println!("SKIPPED unreadable components: the user cannot run this: {error}");
            return None;
        }
        Some(shared)
    }

    fn command(&self, args: &[&str]) -> Command {
        as_user(self.dir.command(args), &self.dir)
    }

    /// The transcript of that user.
    fn assert_transcript(&self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"(user|group) [\w-]+ \(", "$1 [NAME] (");
        settings.bind(|| {
            self.dir
                .assert_transcript_of(name, |script| as_user(self.dir.shell(script), &self.dir));
        });
    }

    /// Has a path belong to root alone.
    fn hide(&self, path: &str) {
        let path = self.dir.path().join(path);
        chown(&path, Some(0), Some(0)).unwrap();
        if path.is_dir() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

fn as_user(mut command: Command, dir: &TestDir) -> Command {
    command.uid(USER).gid(USER).env("XDG_CACHE_HOME", dir.path());
    command
}

#[test]
fn unreadable_components_are_named_and_do_not_affect_others() {
    let Some(shared) = Shared::new() else { return };
    let doctor = shared.command(&["--json", "doctor"]).output().unwrap().stdout;
    assert!(!String::from_utf8_lossy(&doctor).contains("unreadable"));
    shared.hide("storage-data/components/app/notes/home");
    shared.hide("storage-data/components/z/z/z/key");
    shared.assert_transcript("unreadable");
    // All below an unlistable directory.
    shared.hide("storage-data/components/lost");
    shared.assert_transcript("unreadable_namespace");
}

/// A store whose root or engine's file another user owns.
#[test]
fn errors_name_the_owner_of_a_store() {
    let Some(shared) = Shared::new() else { return };
    let put = ["--store", "redb:data", "put", "a/b/c", "key", "value"];
    assert!(shared.command(&put).status().unwrap().success());
    shared.hide("data");
    shared.hide("storage-data");
    shared.assert_transcript("unreadable_store");
}
