//! Readers of a store that a writer has open.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use storage_core::{PageRequest, StorageError};

use super::*;

/// The writer flushes, compacts and removes files all the time.
#[test]
fn a_reader_keeps_its_state_during_writes() {
    const KEYS: usize = 350;
    const AT_MOST: usize = 100_000;
    let dir = StoreDir::new();
    let options = unsynced().with_write_buffer_bytes(64 << 10);
    let writer = RocksDbStorage::open(dir.path(), options).unwrap();
    // Writes are numbered and go to the keys in turn.
    let write = |number: usize| {
        let key = format!("app/notes/{}/{:06}", number % 7, number % KEYS);
        writer.set(&key, format!("{number:01000}").as_str().into()).unwrap();
    };
    // The number of writes that a reader sees. It must hold the newest of them.
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
            // It ends, because such a busy writer can keep a reader out.
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
                match RocksDbStorage::open_read_only(dir.path(), small()) {
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
    assert_sound(&dir.path());
}
