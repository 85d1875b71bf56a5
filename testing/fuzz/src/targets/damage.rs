//! A file store whose files were overwritten: every call succeeds or fails with an error, and
//! never panics.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use storage_backends::internals as disk;
use storage_backends::{FileOptions, FileStorage};
use storage_core::{Commit, ComponentStorage, PageRequest, Revision, StorageError, Store};

use crate::input::Choices;

/// The keys in the store.
const KEYS: [&str; 3] = ["app/notes/home/1", "app/notes/work/1", "unscoped"];

/// Keys and their files.
const FILES: [(&str, &str); 4] = [
    ("app/notes/home/1", "components/app/notes/home/1"),
    ("app/notes/work/1", "components/app/notes/work/1"),
    ("unscoped", "loose/unscoped"),
    ("app/notes/home/2", "components/app/notes/home/2"),
];

/// The temporary file of the first write of the first commit.
const TEMP: &str = "components/app/notes/home/.tmp-0000000000000001-0";

/// Input: the files to overwrite, and their bytes.
pub(crate) fn run(input: &[u8]) {
    let directory = crate::temporary_directory();
    let root = directory.path().join("store");
    let storage = FileStorage::open(&root, FileOptions::default()).unwrap();
    for key in KEYS {
        storage.set(key, "value".into()).unwrap();
    }
    drop(storage);

    let mut choices = Choices::new(input);
    for _ in 0..1 + choices.below(4) {
        overwrite(&root, &mut choices);
    }
    let expected = recovered(&root);
    if let Ok(storage) = FileStorage::open_read_only(&root, FileOptions::default()) {
        // A reader may interpret invalid commits differently from a writer.
        if fs::read_dir(root.join("journal")).unwrap().next().is_none() {
            compare(&storage, expected.as_ref());
        }
        read(&storage);
        assert_eq!(storage.set("app/notes/home/1", "".into()), Err(StorageError::ReadOnly));
    }
    let mut problems = 0;
    let verified = FileStorage::verify(&root, &mut |problem| {
        assert!(!problem.to_string().is_empty());
        problems += 1;
    });
    assert_eq!(
        verified.as_ref().map_or(0, |verified| verified.problems + verified.warnings),
        problems
    );

    let Ok(storage) = FileStorage::open(&root, FileOptions::default()) else { return };
    compare(&storage, expected.as_ref());
    let sound = verified.is_ok_and(|verified| verified.problems == 0);
    let all_right = read(&storage);
    assert!(all_right || !sound, "verify did not find the damage");
    write(&storage);
}

fn overwrite(root: &Path, choices: &mut Choices<'_>) {
    let journal = format!("journal/{:016x}.commit", choices.below(3));
    let [home, work, unscoped, new] = FILES.map(|(_, file)| file);
    let path = root.join(choices.pick(&[
        home,
        work,
        unscoped,
        new,
        TEMP,
        &journal,
        "revisions",
        "FORMAT",
    ]));
    let bytes = match choices.below(5) {
        0 => choices.bytes(300).to_vec(),
        1 => disk::sealed(choices.bytes(300)),
        2 => {
            let (revision, key) = (revision(choices), key(choices));
            disk::record(key, &choices.bytes(50).into(), revision)
        }
        3 => {
            let revision = revision(choices);
            let write = |_| (key(choices).to_owned(), choices.once_in(2));
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

/// Usually near those in the store.
fn revision(choices: &mut Choices<'_>) -> Revision {
    Revision::new(match choices.below(8) {
        0 => choices.number(),
        near => near as u64 - 1,
    })
}

fn key<'a>(choices: &mut Choices<'a>) -> &'a str {
    match choices.below(8) {
        0 => choices.text(300),
        near => FILES[near % FILES.len()].0,
    }
}

/// The expected files after the store was opened, which applies pending commits. `None` if a
/// journal cannot be read.
fn recovered(root: &Path) -> Option<BTreeMap<&'static str, Vec<u8>>> {
    let files = FILES.map(|(key, file)| Some((key, fs::read(root.join(file)).ok()?)));
    let mut files: BTreeMap<&str, Vec<u8>> = files.into_iter().flatten().collect();
    let mut temp = fs::read(root.join(TEMP)).ok();
    let mut journals = Vec::new();
    for entry in fs::read_dir(root.join("journal")).unwrap() {
        journals.push(disk::read_journal(&fs::read(entry.unwrap().path()).unwrap()).ok()?);
    }
    journals.sort();
    for (revision, writes) in journals {
        for (position, (key, sets)) in writes.into_iter().enumerate() {
            let known = FILES.into_iter().find(|(known, _)| *known == key);
            if sets {
                let exists = (revision.get(), position) == (1, 0);
                let taken = temp.take_if(|_| exists && key.starts_with("app/notes/home/"));
                if let (Some((known, _)), Some(bytes)) = (known, taken) {
                    files.insert(known, bytes);
                }
            } else if let Some((known, _)) = known {
                // Neither newer values nor unreadable ones.
                let read = files.get(known).and_then(|bytes| disk::read_record(bytes).ok());
                if read.is_some_and(|(_, found)| found.revision < revision) {
                    files.remove(known);
                }
            }
        }
    }
    Some(files)
}

/// Each key has the value in its file, or none if there is no file, or is reported corrupt.
fn compare(storage: &FileStorage, expected: Option<&BTreeMap<&str, Vec<u8>>>) {
    let Some(expected) = expected else { return };
    for (key, _) in FILES {
        let found = storage.get(key);
        match expected.get(key).map(|bytes| disk::read_record(bytes)) {
            None => assert_eq!(found, Ok(None), "{key}"),
            Some(Ok((of, value))) if of == key => {
                assert_eq!(found, Ok(Some(value.value)), "{key}");
            }
            Some(_) => assert!(matches!(found, Err(StorageError::Corrupt { .. })), "{found:?}"),
        }
    }
}

/// Reads everything; false if there was an error.
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
    whole &= storage.list_components(None, 10).is_ok();
    whole & storage.read_snapshot("", None, &mut |_, _| Ok(())).is_ok()
}

/// Writes. A write may fail, but if it succeeds it must be visible.
fn write(storage: &FileStorage) {
    let mut last = None;
    for key in KEYS {
        if let Ok(revision) = storage_core::put(&storage, key, "new".into()) {
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
    if storage.delete("unscoped").is_ok() {
        assert_eq!(storage.exists("unscoped"), Ok(false));
    }
}
