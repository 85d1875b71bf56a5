//! Verify, and damaged records.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

#[cfg(unix)]
fn access_for_others_is_a_warning(engine: Engine) {
    let dir = filled(engine);
    for mode in [0o755, 0o770] {
        support::set_mode(&dir.path(), mode);
        for path in dir.tree().keys() {
            support::set_mode(path, mode & 0o666);
        }
        let found = engine.problems(&dir);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].kind, ProblemKind::Permissions);
    }
}

fn damaged_records_are_reported_and_can_be_replaced(engine: Engine) {
    let dir = filled(engine);
    let keys = [KEY, "app/notes/work/key"];
    let record = (engine.read_record)(&dir.path(), KEY);
    let mut flipped = record.clone();
    flipped[14] ^= 0x20;
    (engine.write_record)(&dir.path(), KEY, &flipped);
    // The record of another key.
    (engine.write_record)(&dir.path(), keys[1], &record);
    let before = dir.tree();
    let problems = engine.problems(&dir);
    assert!(dir.tree() == before, "verify changes nothing");
    for key in keys {
        let damage = |problem: &&storage_core::Problem| problem.key.as_deref() == Some(key);
        assert_eq!(problems.iter().filter(damage).count(), 1, "{key}: {problems:?}");
    }
    let store = engine.open(&dir.path());
    for key in keys {
        for result in [
            store.get(key).map(drop),
            store.get_versioned(key).map(drop),
            store.get_many(&["missing", key]).map(drop),
            store.commit(Commit::new().require_value(key, "value".into()).delete(key)).map(drop),
        ] {
            let Err(StorageError::Corrupt { key: Some(named), detail }) = result else {
                panic!("{result:?}")
            };
            assert_eq!(named, key);
            assert!(detail.contains("restore the "), "{detail}");
        }
    }
    let read = store.read_snapshot("", None, &mut |_, _| Ok(()));
    assert!(matches!(read, Err(StorageError::Corrupt { key: Some(_), .. })));
    assert_eq!(store.list_keys(None).unwrap(), [keys[0], keys[1], "unscoped"]);
    store.set(KEY, "new".into()).unwrap();
    assert_eq!(store.get(KEY), Ok(Some("new".into())));
    store.delete(keys[1]).unwrap();
    drop(store);
    engine.assert_undamaged(&dir.path());
}

fn a_panic_of_the_reporter_propagates(engine: Engine) {
    let dir = filled(engine);
    (engine.write_record)(&dir.path(), KEY, b"damaged");
    let verify = || (engine.verify)(&dir.path(), &mut |_| panic!("the reporter"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(verify)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the reporter");
}

fn a_running_writer_causes_no_problems(engine: Engine) {
    let dir = StoreDir::new();
    let store = engine.open_relaxed(&dir.path());
    if !engine.reads_beside_writer {
        let verified = (engine.verify)(&dir.path(), &mut |_| {});
        assert!(matches!(verified, Err(StorageError::Locked(_))), "{verified:?}");
        return;
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 0..3_usize {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !done.load(Ordering::Acquire)) {
                    let key =
                        |n: usize| format!("app/{thread}/c{}/{}", n % 3, "k".repeat(n % 260 + 1));
                    store.set(&key(number), number.to_string().as_str().into()).unwrap();
                    store.delete(&key(number / 2)).unwrap();
                    let commit = Commit::new()
                        .set(key(number + 1), "x".into())
                        .set(format!("unscoped-{thread}"), "x".into())
                        .delete(key(number + 2));
                    store.commit(commit).unwrap();
                }
            });
        }
        let _end = SetWhenDropped(&done);
        for _ in 0..20 {
            assert_eq!(engine.problems(&dir), []);
        }
    });
    drop(store);
    engine.assert_undamaged(&dir.path());
}

test_each_engine! {
    damaged_records_are_reported_and_can_be_replaced,
    a_panic_of_the_reporter_propagates,
    a_running_writer_causes_no_problems,
}

#[cfg(unix)]
mod unix {
    use super::access_for_others_is_a_warning;

    test_each_engine! { access_for_others_is_a_warning }
}
