//! The cache of compiled components of `run`, and which of its entries it trusts.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;

use crate::guests::command;
use crate::support::{Done, TestDir, started_by};

/// A separate cache directory, and two components, which exit with 0 and 1.
struct Cache {
    dir: TestDir,
}

const GOOD: (&str, i32) = ("good.wasm", 0);
const BAD: (&str, i32) = ("bad.wasm", 1);

impl Cache {
    fn new() -> Self {
        let dir = TestDir::new();
        for (name, status) in [GOOD, BAD] {
            dir.file(name, &command("", &format!("(i32.const {status})"), ""));
        }
        Self { dir }
    }

    fn parent(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn directory(&self) -> PathBuf {
        self.parent().join("storage-host/compiled")
    }

    fn command(&self, component: &str) -> Command {
        let args = ["--store", "memory:", "run", "--id", "a/b/c", component];
        let mut command = self.dir.command(&args);
        command.env("XDG_CACHE_HOME", self.parent()).env("STORAGE_HOST_LOG", "warn");
        command
    }

    /// Runs a component and checks how it ends. Returns the log.
    #[track_caller]
    fn run(&self, (component, status): (&str, i32)) -> String {
        let done = Done::of(self.command(component).output().unwrap());
        assert_eq!(done.code, status, "{}", done.stderr);
        done.stderr
    }

    fn entries(&self) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.directory()) else { return Vec::new() };
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// Runs a component for the first time, and gives its entry.
    fn entry_of(&self, component: (&str, i32)) -> PathBuf {
        let before = self.entries();
        self.run(component);
        let new: Vec<_> =
            self.entries().into_iter().filter(|entry| !before.contains(entry)).collect();
        assert_eq!(new.len(), 1, "{new:?}");
        new[0].clone()
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Gives a path to another user, which only root can.
fn give_away(path: &Path) -> bool {
    match chown(path, Some(12_345), Some(12_345)) {
        Ok(()) => true,
        Err(error) => {
            println!("SKIPPED {} of another user: {error}", path.display());
            false
        }
    }
}

#[test]
fn a_cached_component_is_reused() {
    let cache = Cache::new();
    let entry = cache.entry_of(GOOD);
    let (inode, bytes) = (fs::metadata(&entry).unwrap().ino(), fs::read(&entry).unwrap());
    assert_eq!(cache.run(GOOD), "");
    assert_eq!(cache.entries(), std::slice::from_ref(&entry));
    assert_eq!((fs::metadata(&entry).unwrap().ino(), fs::read(&entry).unwrap()), (inode, bytes));
}

#[test]
fn damaged_entries_are_replaced() {
    const PLACES: usize = 24;
    let cache = Cache::new();
    let entry = cache.entry_of(GOOD);
    let whole = fs::read(&entry).unwrap();
    // Offsets in the header's fields and in the machine code.
    let header = [0, 20, 60, 85, 100];
    let code = (0..PLACES).map(|number| 120 + number * (whole.len() - 121) / (PLACES - 1));
    for place in header.into_iter().chain(code) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&entry, damaged).unwrap();
        let log = cache.run(GOOD);
        assert!(log.contains("is damaged; replacing it"), "byte {place}: {log}");
        assert_eq!(fs::read(&entry).unwrap(), whole, "byte {place}");
    }
    for len in [0, 1, 119, 120, whole.len() / 2, whole.len() - 1] {
        fs::write(&entry, &whole[..len]).unwrap();
        cache.run(GOOD);
        assert_eq!(fs::read(&entry).unwrap(), whole, "{len} bytes");
    }
    fs::write(&entry, [&whole[..], b"more"].concat()).unwrap();
    cache.run(GOOD);
    assert_eq!(fs::read(&entry).unwrap(), whole);
}

#[test]
fn an_entry_of_another_component_is_not_used() {
    let cache = Cache::new();
    let (good, bad) = (cache.entry_of(GOOD), cache.entry_of(BAD));
    fs::copy(&bad, &good).unwrap();
    assert!(cache.run(GOOD).contains("is damaged; replacing it"));
    cache.run(BAD);
    // Nor one of an engine with other settings.
    let before = cache.entries();
    let args = ["--store", "memory:", "run", "--id", "a/b/c", "--timeout", "3600", GOOD.0];
    let mut with_deadline = cache.dir.command(&args);
    with_deadline.env("XDG_CACHE_HOME", cache.parent());
    assert!(with_deadline.status().unwrap().success());
    let other: Vec<_> =
        cache.entries().into_iter().filter(|entry| !before.contains(entry)).collect();
    assert_eq!(other.len(), 1);
    fs::copy(&other[0], &good).unwrap();
    assert!(cache.run(GOOD).contains("is damaged; replacing it"));
}

#[test]
fn links_pipes_and_foreign_files_are_not_used() {
    let cache = Cache::new();
    let entry = cache.entry_of(GOOD);
    let whole = fs::read(&entry).unwrap();

    // A link to a good copy: it is replaced, and what it leads to is not touched.
    let elsewhere = cache.dir.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).unwrap();
    symlink(&elsewhere, &entry).unwrap();
    cache.run(GOOD);
    assert!(fs::symlink_metadata(&entry).unwrap().is_file());
    assert_eq!(fs::read(&elsewhere).unwrap(), whole);

    // A pipe, which blocks a reader that opens it.
    fs::remove_file(&entry).unwrap();
    if Command::new("mkfifo").arg(&entry).status().is_ok_and(|status| status.success()) {
        cache.run(GOOD);
        assert_eq!(fs::read(&entry).unwrap(), whole);
    } else {
        println!("SKIPPED a pipe in the cache: there is no mkfifo");
        cache.run(GOOD);
    }

    set_mode(&entry, 0o622);
    assert!(cache.run(GOOD).contains("only this user can write"));
    assert_eq!(mode(&entry), 0o600);

    if give_away(&entry) {
        assert!(cache.run(GOOD).contains("cannot use "));
        assert_eq!(fs::metadata(&entry).unwrap().uid(), fs::metadata(&elsewhere).unwrap().uid());
    }
}

#[rstest]
fn the_cache_is_private(#[values("000", "022", "077", "777")] umask: &str) {
    let cache = Cache::new();
    let inner = cache.command(GOOD.0);
    let script = format!("umask {umask}; exec \"$@\"");
    let mut shell = started_by(&["sh", "-c", &script, "sh"], &inner);
    let done = Done::of(shell.output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
    for directory in [cache.parent(), cache.parent().join("storage-host"), cache.directory()] {
        assert_eq!(mode(&directory), 0o700, "{}", directory.display());
    }
    let entries = cache.entries();
    assert_eq!(entries.len(), 1);
    assert_eq!(mode(&entries[0]), 0o600);
}

#[rstest]
#[case::the_directory("cache/storage-host/compiled", 0o720)]
#[case::the_directory_although_sticky("cache/storage-host/compiled", 0o1777)]
#[case::one_above("cache/storage-host", 0o770)]
#[case::one_further_above("cache", 0o702)]
fn a_directory_that_other_users_can_write_is_not_used(#[case] directory: &str, #[case] wide: u32) {
    let cache = Cache::new();
    fs::create_dir_all(cache.directory()).unwrap();
    for path in [cache.parent(), cache.parent().join("storage-host"), cache.directory()] {
        set_mode(&path, 0o755);
    }
    let directory = cache.dir.path().join(directory);
    set_mode(&directory, wide);
    let log = cache.run(GOOD);
    assert!(log.contains(&format!("other users can write to {}", directory.display())), "{log}");
    assert!(log.contains("chmod go-w"), "{log}");
    assert_eq!(cache.entries(), Vec::<PathBuf>::new());
    // The command in the warning helps.
    set_mode(&directory, wide & !0o022);
    assert_eq!(cache.run(GOOD), "");
    assert_eq!(cache.entries().len(), 1);
    // Once other users can write, an existing entry is neither used nor replaced.
    set_mode(&directory, wide);
    fs::write(&cache.entries()[0], "planted").unwrap();
    assert!(cache.run(GOOD).contains("other users can write"));
    assert_eq!(fs::read(&cache.entries()[0]).unwrap(), b"planted");
}

#[test]
fn a_directory_of_another_user_is_not_used() {
    for name in ["cache", "cache/storage-host", "cache/storage-host/compiled"] {
        let cache = Cache::new();
        fs::create_dir_all(cache.directory()).unwrap();
        for path in [cache.parent(), cache.parent().join("storage-host"), cache.directory()] {
            set_mode(&path, 0o755);
        }
        let directory = cache.dir.path().join(name);
        if !give_away(&directory) {
            return;
        }
        let log = cache.run(GOOD);
        assert!(log.contains("belongs to user 12345"), "{name}: {log}");
        assert_eq!(cache.entries(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_link_is_followed_if_no_other_user_can_change_it() {
    let cache = Cache::new();
    let elsewhere = cache.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o755);
    symlink("elsewhere", cache.parent()).unwrap();
    assert_eq!(cache.run(GOOD), "");
    assert_eq!(fs::read_dir(elsewhere.join("storage-host/compiled")).unwrap().count(), 1);
    // The directory that it leads to counts.
    set_mode(&elsewhere, 0o757);
    assert!(cache.run(GOOD).contains("other users can write"));
}

#[test]
fn doctor_warns_of_an_unsafe_cache() {
    let cache = Cache::new();
    fs::create_dir_all(cache.directory()).unwrap();
    set_mode(&cache.parent(), 0o777);
    let doctor = || {
        let mut command = cache.dir.command(&["--json", "doctor"]);
        let done = Done::of(command.env("XDG_CACHE_HOME", cache.parent()).output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout
    };
    assert!(doctor().contains("\"unsafe_cache\""), "{}", doctor());
    for path in [cache.parent(), cache.parent().join("storage-host"), cache.directory()] {
        set_mode(&path, 0o700);
    }
    assert!(!doctor().contains("\"unsafe_cache\""), "{}", doctor());
}
