//! Stores opened for reading.

use super::*;

fn a_reader_changes_nothing(engine: Engine) {
    let closed = filled(engine);
    let writer = engine.open(&closed.path());
    writer.set("app/notes/home/killed", "value".into()).unwrap();
    let killed = closed.copy();
    drop(writer);
    for dir in [closed, killed] {
        if engine.is_directory {
            // A copy may lack the lock file.
            fs::remove_file(dir.path().join(engine.lock_file)).unwrap();
        }
        let before = dir.tree();
        let reader = engine.read_only(&dir.path());
        assert_eq!(contents(&reader).len(), 4);
        reader.usage(None).unwrap();
        reader.usage(Some("app/notes/home/")).unwrap();
        reader.list_components(None, 10).unwrap();
        reader.read_snapshot("", None, &mut |_, _| Ok(())).unwrap();
        reader.flush().unwrap();
        let refused = [
            reader.set("a/b/c/d", "x".into()),
            reader.delete(KEY),
            storage_core::put(&reader, "a/b/c/d", "x".into()).map(drop),
            reader.commit(Commit::new()).map(drop),
        ];
        assert!(refused.iter().all(|result| *result == Err(StorageError::ReadOnly)));
        drop(reader);
        assert_eq!(engine.problems(&dir), []);
        assert!(dir.tree() == before);
        assert_eq!(dir.names(), ["store"]);
    }
}

fn a_reader_sees_earlier_writes_of_a_running_writer(engine: Engine) {
    if !engine.reads_beside_writer {
        return;
    }
    let dir = StoreDir::new();
    let writer = engine.open(&dir.path());
    for number in 0..20 {
        let key = format!("app/notes/n{}/note-{number}", number % 3);
        writer.set(&key, "text".into()).unwrap();
        let reader = engine.read_only(&dir.path());
        assert_eq!(contents(&reader), contents(&writer));
        assert_eq!(reader.usage(None), writer.usage(None));
        assert_eq!(reader.list_components(None, 9), writer.list_components(None, 9));
        writer.delete(&format!("app/notes/n0/note-{}", number / 2)).unwrap();
    }
}

fn a_killed_writer_loses_no_acknowledged_write(engine: Engine) {
    let dir = StoreDir::new();
    let store = engine.open(&dir.path());
    let first = storage_core::put(&store, "a/b/c/first", "".into()).unwrap();
    let mut last = first;
    for number in 0..20_usize {
        let key = format!("a/b/{}/{number:02}", number % 3);
        let commit = Commit::new().set(key, vec![7; number * 500].into()).delete("a/b/c/00");
        last = store.commit(commit.with_budget(Budget::UNLIMITED)).unwrap_or(last);
        let killed = dir.copy();
        assert_eq!(contents(&engine.read_only(&killed.path())), contents(&store), "{number}");
        let again = engine.open(&killed.path());
        assert_eq!(contents(&again), contents(&store), "{number}");
        assert!(storage_core::put(&again, "a/b/c/00", "".into()).unwrap() > last);
        drop(again);
        engine.assert_undamaged(&killed.path());
    }
    assert!(last.get() - first.get() < 100, "revisions are not wasted: {first} to {last}");
}

fn a_panicking_visitor_leaves_the_store_usable(engine: Engine) {
    let dir = filled(engine);
    let store = engine.open(&dir.path());
    let read = || store.read_snapshot("", None, &mut |_, _| panic!("the visitor"));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_err();
    assert_eq!(*panic.downcast::<&str>().unwrap(), "the visitor");
    store.set(KEY, "later".into()).unwrap();
    assert_eq!(store.get(KEY), Ok(Some("later".into())));
}

test_each_engine! {
    a_reader_changes_nothing,
    a_reader_sees_earlier_writes_of_a_running_writer,
    a_killed_writer_loses_no_acknowledged_write,
    a_panicking_visitor_leaves_the_store_usable,
}
