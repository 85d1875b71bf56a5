//! A file store in which somebody has written bytes of their own: it opens or says
//! what is wrong, answers or says that it cannot, and never panics.

use std::fs;
use std::path::Path;

use storage_backends::internals as disk;
use storage_backends::{FileOptions, FileStorage};
use storage_core::{Commit, ComponentStorage, PageRequest, Revision, StorageError};

use crate::input::Choices;

const KEYS: [&str; 3] = ["app/notes/home/1", "app/notes/work/1", "loose"];

/// Which files, and the bytes for each.
pub(crate) fn run(input: &[u8]) {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("store");
    let storage = FileStorage::open(&root, FileOptions::default()).unwrap();
    for key in KEYS {
        storage.set(key, "value".into()).unwrap();
    }
    drop(storage);

    let mut choices = Choices::new(input);
    for _ in 0..1 + choices.below(3) {
        overwrite(&root, &mut choices);
    }
    let read_only = FileStorage::open_read_only(&root, FileOptions::default());
    if let Ok(storage) = read_only {
        read(&storage);
        assert_eq!(storage.set("app/notes/home/1", "".into()), Err(StorageError::ReadOnly));
    }
    let mut problems = 0;
    let verified = FileStorage::verify(&root, &mut |problem| {
        assert!(!problem.to_string().is_empty());
        problems += 1;
    });
    assert_eq!(verified.as_ref().map_or(0, |verified| verified.problems), problems);

    let Ok(storage) = FileStorage::open(&root, FileOptions::default()) else { return };
    let sound = verified.is_ok_and(|verified| verified.problems == 0);
    let all_right = read(&storage);
    assert!(all_right || !sound, "verify has found nothing");
    write(&storage);
}

fn overwrite(root: &Path, choices: &mut Choices<'_>) {
    let journal = format!("journal/{:016x}.commit", choices.below(3));
    let files = [
        "FORMAT",
        "revisions",
        &journal,
        "components/app/notes/home/1",
        "components/app/notes/work/1",
        "loose/loose",
        "components/app/notes/home/2",
        "components/app/notes/home/.tmp-0000000000000001-0",
    ];
    let path = root.join(choices.pick(&files));
    let bytes = match choices.below(5) {
        0 => choices.bytes(300).to_vec(),
        1 => disk::sealed(choices.bytes(300)),
        2 => {
            let revision = Revision::new(choices.number());
            disk::record(choices.text(300), &choices.bytes(50).into(), revision)
        }
        3 => {
            let revision = Revision::new(choices.number());
            let write = |_| (choices.text(100).to_owned(), choices.once_in(2));
            disk::journal(revision, &[0, 1].map(write))
        }
        _ => {
            let mut slots = disk::counter_slot(choices.number());
            slots.resize(4_096, 0);
            slots.extend(disk::counter_slot(choices.number()));
            slots
        }
    };
    fs::write(path, bytes).unwrap();
}

/// Reads everything; tells whether there was no error.
fn read(storage: &FileStorage) -> bool {
    let mut whole = true;
    let Ok(keys) = storage.list_keys(None) else { return false };
    for key in KEYS.into_iter().chain(keys.iter().map(String::as_str)) {
        let versioned = storage.get_versioned(key);
        match storage.get(key) {
            Ok(found) => assert_eq!(found, versioned.unwrap().map(|found| found.value)),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                whole = false;
            }
        }
    }
    whole &= storage.usage(None).is_ok();
    whole &= storage.list_page(PageRequest::new(2).after("app/notes/home/1")).is_ok();
    whole &= storage.list_partitions(None, 10).is_ok();
    whole & storage.read_snapshot("", None, &mut |_, _| Ok(())).is_ok()
}

/// Writes, which may fail but keeps its promises if it does not.
fn write(storage: &FileStorage) {
    let mut last = None;
    for key in KEYS {
        if let Ok(revision) = storage.put(key, "new".into()) {
            assert!(last < Some(revision), "{revision} after {last:?}");
            last = Some(revision);
            assert_eq!(storage.get(key), Ok(Some("new".into())));
        }
    }
    let commit = Commit::new().set("app/notes/home/2", "2".into()).delete("app/notes/home/1");
    if let Ok(revision) = storage.commit(commit) {
        assert!(last < Some(revision), "{revision} after {last:?}");
        assert_eq!(storage.get("app/notes/home/2"), Ok(Some("2".into())));
        assert_eq!(storage.get("app/notes/home/1"), Ok(None));
    }
    if storage.delete("loose").is_ok() {
        assert_eq!(storage.exists("loose"), Ok(false));
    }
}
