//! What `run` keeps of the components that it compiles, and what of it it trusts.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::guests::command;
use crate::support::{Done, TestDir};

/// A separate cache directory, and two components, which exit with 0 and 1.
struct Cache {
    dir: TestDir,
}

impl Cache {
    fn new() -> Self {
        let dir = TestDir::new();
        for (name, status) in [("good.wasm", 0), ("bad.wasm", 1)] {
            dir.file(name, &command("", &format!("(i32.const {status})"), ""));
        }
        Self { dir }
    }

    /// Runs the first component, and gives what the log says.
    #[track_caller]
    fn run(&self) -> String {
        let args = ["--store", "memory:", "run", "--id", "a/b/c", "good.wasm"];
        let mut command = self.dir.command(&args);
        command.env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        let done = Done::of(command.env("STORAGE_HOST_LOG", "warn").output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stderr
    }

    /// The files with compiled code.
    fn entries(&self) -> Vec<PathBuf> {
        self.dir.tree("cache/storage-host/compiled").into_keys().collect()
    }
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
fn only_private_and_undamaged_entries_of_the_component_are_used() {
    Cache::new().dir.assert_transcript("compiled");
}

#[test]
fn damaged_entries_are_replaced() {
    const PLACES: usize = 24;
    let cache = Cache::new();
    cache.run();
    let [entry] = &*cache.entries() else { panic!("not one entry") };
    let whole = fs::read(entry).unwrap();
    // Offsets in the header's fields and in the machine code.
    let header = [0, 20, 60, 85, 100];
    let code = (0..PLACES).map(|number| 120 + number * (whole.len() - 121) / (PLACES - 1));
    for place in header.into_iter().chain(code) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(entry, damaged).unwrap();
        let log = cache.run();
        assert!(log.contains("is damaged; replacing it"), "byte {place}: {log}");
        assert_eq!(fs::read(entry).unwrap(), whole, "byte {place}");
    }
    for len in [0, 1, 119, 120, whole.len() / 2, whole.len() - 1] {
        fs::write(entry, &whole[..len]).unwrap();
        cache.run();
        assert_eq!(fs::read(entry).unwrap(), whole, "{len} bytes");
    }
    fs::write(entry, [&whole[..], b"more"].concat()).unwrap();
    cache.run();
    assert_eq!(fs::read(entry).unwrap(), whole);
}

#[test]
fn an_entry_of_another_user_is_not_used() {
    let cache = Cache::new();
    cache.run();
    let entry = cache.entries().remove(0);
    if give_away(&entry) {
        assert!(cache.run().contains("cannot use "));
        assert_ne!(fs::metadata(&entry).unwrap().uid(), 12_345);
    }
}

#[test]
fn a_directory_of_another_user_is_not_used() {
    for name in ["cache", "cache/storage-host", "cache/storage-host/compiled"] {
        let cache = Cache::new();
        fs::create_dir_all(cache.dir.path().join("cache/storage-host/compiled")).unwrap();
        for directory in ["cache", "cache/storage-host", "cache/storage-host/compiled"] {
            let private = Permissions::from_mode(0o755);
            fs::set_permissions(cache.dir.path().join(directory), private).unwrap();
        }
        if !give_away(&cache.dir.path().join(name)) {
            return;
        }
        let log = cache.run();
        assert!(log.contains("belongs to user 12345"), "{name}: {log}");
        assert_eq!(cache.entries(), Vec::<PathBuf>::new());
    }
}
