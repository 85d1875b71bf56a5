//! Readers change nothing, and live beside a writer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use storage_core::{PageRequest, StorageError, Store};

use super::*;

#[test]
fn a_reader_changes_nothing() {
    let closed = Place::new();
    fixture::copy_to(&closed);
    let killed = {
        let storage = open(&closed.path());
        storage.set("app/notes/home/in-the-log", "text".into()).unwrap();
        as_if_killed(&closed)
    };
    for place in [closed, killed] {
        // The lock's file, and whatever else: a copy may lack it.
        fs::remove_file(place.path().join("WRITER")).unwrap();
        let before = place.tree();
        let reader = read_only(&place.path());
        assert_eq!(reader.get("app/notes/home/in-the-log"), Ok(Some("text".into())));
        contents(&reader);
        reader.usage(None).unwrap();
        reader.usage(Some("app/notes/home/")).unwrap();
        reader.list_components(None, 10).unwrap();
        reader.flush().unwrap();
        let refused = [
            reader.set("a/b/c/d", "x".into()),
            reader.delete("app/notes/home/a"),
            storage_core::put(&reader, "a/b/c/d", "x".into()).map(drop),
            reader.commit(Commit::new()).map(drop),
            reader.checkpoint(&place.path().with_extension("copy")),
        ];
        assert!(refused.iter().all(|result| *result == Err(StorageError::ReadOnly)));
        verify(&place.path());
        drop(reader);
        assert_eq!(place.tree(), before);
        assert!(!place.path().with_extension("copy").exists());
    }
}

#[cfg(unix)]
#[test]
fn a_read_only_file_system_is_readable() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fixture::copy_to(&place);
    let expected = contents(&read_only(&place.path()));
    let restrict = |mode| fs::set_permissions(place.path(), fs::Permissions::from_mode(mode));
    restrict(0o500).unwrap();
    let found = contents(&read_only(&place.path()));
    restrict(0o700).unwrap();
    assert_eq!(found, expected);
}

#[test]
fn a_reader_sees_all_earlier_writes() {
    let place = Place::new();
    let writer = open(&place.path());
    for number in 0..20 {
        let key = format!("app/notes/n{}/note-{number}", number % 3);
        writer.set(&key, "text".into()).unwrap();
        let reader = read_only(&place.path());
        assert_eq!(contents(&reader), contents(&writer));
        assert_eq!(reader.usage(None), writer.usage(None));
        assert_eq!(reader.list_components(None, 9), writer.list_components(None, 9));
        writer.delete(&format!("app/notes/n0/note-{}", number / 2)).unwrap();
        // What comes later it does not.
        assert_eq!(reader.get(&key), Ok(Some("text".into())));
    }
}

/// The writer writes out, compacts and removes files all the time.
#[test]
fn a_reader_keeps_its_state_during_writes() {
    const KEYS: usize = 350;
    const AT_MOST: usize = 100_000;
    let place = Place::new();
    let options = unsynced().with_write_buffer_bytes(64 << 10);
    let writer = RocksDbStorage::open(place.path(), options).unwrap();
    // Each write has a number, and a key gets every `KEYS`th.
    let write = |number: usize| {
        let key = format!("app/notes/{}/{:06}", number % 7, number % KEYS);
        writer.set(&key, format!("{number:01000}").as_str().into()).unwrap();
    };
    // How many writes a store is left by; what it holds are the newest of them.
    let writes = |reader: &RocksDbStorage| {
        let number = |value: StorageValue| String::from_utf8(value.into_bytes()).unwrap().parse();
        let mut numbers: Vec<usize> =
            contents(reader).into_iter().map(|(_, value)| number(value).unwrap()).collect();
        numbers.sort_unstable();
        let all = numbers.last().unwrap() + 1;
        assert!(numbers.iter().copied().eq(all - KEYS..all), "{numbers:?}");
        all
    };
    (0..KEYS).for_each(write);
    let (done, written) = (AtomicBool::new(false), AtomicUsize::new(KEYS));
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            // It ends, because a writer so busy can keep a reader out.
            for number in (KEYS..AT_MOST).take_while(|_| !done.load(Ordering::Acquire)) {
                write(number);
                written.store(number + 1, Ordering::Release);
            }
        });
        let _end = SetWhenDropped(&done);
        let mut kept = Vec::new();
        for _ in 0..25 {
            let before = written.load(Ordering::Acquire);
            let reader = loop {
                let may_be_kept_out = !busy.is_finished();
                match RocksDbStorage::open_read_only(place.path(), small()) {
                    Err(StorageError::Unavailable { .. }) if may_be_kept_out => {}
                    opened => break opened.unwrap(),
                }
            };
            let found = writes(&reader);
            let after = written.load(Ordering::Acquire);
            assert!((before..=after + 1).contains(&found), "{before}, {found}, {after}");
            assert_eq!(reader.list_keys(None).unwrap().len(), KEYS);
            kept.push((reader, found));
            kept.truncate(3);
        }
        for (reader, found) in kept {
            assert_eq!(writes(&reader), found);
            let page = reader.list_page(PageRequest::new(5)).unwrap();
            assert_eq!(page.keys.len(), 5);
        }
    });
    drop(writer);
    assert_sound(&place.path());
}
