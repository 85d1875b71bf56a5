//! Snapshots while others write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const HOME: &str = "app/notes/home/";

#[test]
fn a_snapshot_does_not_see_later_writes_and_can_be_ended() {
    for test in TestStore::all() {
        let store = test.open();
        for n in 0..100 {
            store.set(&format!("{HOME}{n:02}"), "old".into()).unwrap();
        }
        let mut read = Vec::new();
        store
            .read_snapshot(HOME, None, &mut |key, value| {
                if read.is_empty() {
                    store.set(&format!("{HOME}99"), "new".into()).unwrap();
                    store.set(&format!("{HOME}99"), "newer".into()).unwrap();
                    store.delete(&format!("{HOME}98")).unwrap();
                    store.delete(&format!("{HOME}97")).unwrap();
                    store.set(&format!("{HOME}97"), "again".into()).unwrap();
                    store.set(&format!("{HOME}50-new"), "new".into()).unwrap();
                    store.set(&format!("{HOME}zz"), "new".into()).unwrap();
                }
                assert_eq!(value, "old".into(), "{key}");
                read.push(key.to_owned());
                Ok(())
            })
            .unwrap();
        let expected: Vec<String> = (0..100).map(|n| format!("{HOME}{n:02}")).collect();
        assert_eq!(read, expected);
        let ended = store.read_snapshot(HOME, None, &mut |_, _| Err(StorageError::ReadOnly));
        assert_eq!(ended, Err(StorageError::ReadOnly));
        assert_eq!(store.get(&format!("{HOME}99")).unwrap(), Some("newer".into()));
        let left = |name: &String| ["r:", "o:", "x:"].iter().any(|kind| name.starts_with(kind));
        assert_eq!(test.names().into_iter().filter(left).count(), 0);
    }
}

/// Changes after the first of several parts, so that later parts are read after them.
#[test]
fn a_snapshot_of_many_parts_has_what_was_deleted_and_replaced_meanwhile() {
    let Some(test) = TestStore::single() else { return };
    let (store, writer) = (test.open(), test.open());
    let key = |n: usize| format!("app/notes/{}/{n:04}", n % 7);
    let mut expected: Vec<(String, usize)> = (0..5_000).map(|n| (key(n), n)).collect();
    for chunk in expected.chunks(500) {
        let commit = chunk
            .iter()
            .fold(Commit::new(), |commit, (key, n)| commit.set(key, n.to_string().as_str().into()));
        writer.commit(commit).unwrap();
    }
    writer.set("unscoped", "5000".into()).unwrap();
    expected.push(("unscoped".to_owned(), 5_000));
    expected.sort();
    for (prefix, after) in [("", None), ("app/notes/3/", None), ("", Some("app/notes/3/0500"))] {
        let mut read = Vec::new();
        let mut is_first = true;
        store
            .read_snapshot(prefix, after, &mut |key, value| {
                if std::mem::take(&mut is_first) {
                    // Whole components, parts of others, and new ones.
                    for (key, n) in &expected {
                        match n % 5 {
                            _ if key.starts_with("app/notes/6/") => writer.delete(key).unwrap(),
                            0 => writer.delete(key).unwrap(),
                            1 | 2 => writer.set(key, "replaced".into()).unwrap(),
                            3 => writer.set(&format!("{key}-new"), "new".into()).unwrap(),
                            _ => {}
                        }
                    }
                    writer.set("app/notes/0-new/1", "new".into()).unwrap();
                }
                let text = String::from_utf8(value.into_bytes()).unwrap();
                read.push((key.to_owned(), text.parse().unwrap()));
                Ok(())
            })
            .unwrap();
        let wanted = |(key, _): &&(String, usize)| {
            key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        };
        let wanted: Vec<_> = expected.iter().filter(wanted).cloned().collect();
        assert_eq!(read.len(), wanted.len(), "{prefix:?} {after:?}");
        assert_eq!(read, wanted, "{prefix:?} {after:?}");
        // As before.
        for (key, n) in &expected {
            writer.set(key, n.to_string().as_str().into()).unwrap();
            writer.delete(&format!("{key}-new")).unwrap();
        }
        writer.delete("app/notes/0-new/1").unwrap();
    }
    assert_eq!(verifying::problems(&store), []);
}

#[test]
fn snapshots_under_load_have_whole_commits() {
    let Some(test) = TestStore::single() else { return };
    let hosts = [test.open(), test.open()];
    // Each commit moves an amount between two of many accounts, in two components.
    let account = |n: usize| format!("app/bank/{}/{:03}", n % 2, n);
    let accounts = 300;
    let create = (0..accounts).fold(Commit::new(), |commit, n| commit.set(account(n), "10".into()));
    hosts[0].commit(create).unwrap();
    let stop = AtomicBool::new(false);
    let amount = |value: storage_core::StorageValue| {
        String::from_utf8(value.into_bytes()).unwrap().parse::<i64>().unwrap()
    };
    thread::scope(|scope| {
        for writer in 0..3 {
            let (store, stop) = (&hosts[writer % 2], &stop);
            scope.spawn(move || {
                let mut n = writer * 97;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let (from, to) = (account(n * 7 % accounts), account(n * 11 % accounts));
                    if from == to {
                        continue;
                    }
                    let read = |key: &str| store.get_versioned(key).unwrap().unwrap();
                    let (a, b) = (read(&from), read(&to));
                    let commit = Commit::new()
                        .require_revision(&from, a.revision)
                        .require_revision(&to, b.revision)
                        .set(&from, (amount(a.value) - 1).to_string().as_str().into())
                        .set(&to, (amount(b.value) + 1).to_string().as_str().into());
                    match store.commit(commit) {
                        Ok(_) | Err(StorageError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        // Several at the same time, too.
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let store = &hosts[reader];
                scope.spawn(move || {
                    for _ in 0..30 {
                        let (mut sum, mut count) = (0, 0);
                        store
                            .read_snapshot("", None, &mut |_, value| {
                                sum += amount(value);
                                count += 1;
                                Ok(())
                            })
                            .unwrap();
                        assert_eq!((sum, count), (10 * accounts as i64, accounts));
                    }
                })
            })
            .collect();
        let results: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    assert_eq!(verifying::problems(&hosts[0]), []);
}

/// What a reader finds that was away for longer than commits keep values for it.
#[test]
fn a_reader_that_is_late_notices_it() {
    let Some(test) = TestStore::single() else { return };
    let store = test.open();
    for n in 0..3_000 {
        store.set(&format!("{HOME}{n:04}"), "old".into()).unwrap();
    }
    let mut raw = test.raw();
    let snapshots = test.name("r", "");
    let mut read = 0;
    let result = store.read_snapshot("", None, &mut |_, value| {
        if read == 0 {
            let redis::Value::Array(names) = raw.run(&format!("ZRANGE {snapshots} 0 -1")) else {
                panic!("no array");
            };
            let name = raw::text(&names[0]);
            raw.run(&format!("ZADD {snapshots} 1 {name}"));
            store.set(&format!("{HOME}2999"), "new".into()).unwrap();
        }
        read += 1;
        assert_eq!(value, "old".into());
        Ok(())
    });
    let error = result.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("snapshot ended early"), "{error}");
    // It notices before it has read much more.
    assert!(read < 2_000, "{read}");
    // The next commit of anyone forgets a reader that is gone, and what was kept for it.
    assert!(!test.names().iter().any(|name| name.starts_with("o:") || name.starts_with("x:")));
}
