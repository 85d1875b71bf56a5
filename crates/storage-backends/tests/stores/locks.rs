//! The store lock.

use std::thread;
use std::time::Duration;

use storage_backends::look_for_writer;

use super::*;

fn a_second_writer_is_refused_with_the_first(engine: Engine) {
    let dir = StoreDir::new();
    let first = engine.open(&dir.path());
    let Err(error) = (engine.open_with)(&dir.path(), Durability::Sync) else { panic!("opened") };
    assert!(matches!(error, StorageError::Locked(_)), "{error}");
    if cfg!(target_os = "linux") {
        let expected = format!(
            "the store {} is locked: this process has it open for writing; close it first",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }
    let reader = (engine.open_read_only)(&dir.path());
    assert_eq!(reader.is_ok(), engine.reads_beside_writer);
    drop(reader);
    first.set(KEY, "still works".into()).unwrap();
    drop(first);
    engine.open(&dir.path());
}

fn a_writer_waits_for_a_short_shared_lock(engine: Engine) {
    let dir = StoreDir::new();
    drop(engine.open(&dir.path()));
    let lock = match engine.is_directory {
        true => dir.path().join(engine.lock_file),
        false => dir.path(),
    };
    let lock = fs::File::open(lock).unwrap();
    lock.lock_shared().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| drop(engine.open(&dir.path())));
        thread::sleep(Duration::from_millis(40));
        drop(lock);
        writer.join().unwrap();
    });
}

fn look_for_writer_finds_writers_only(engine: Engine) {
    let dir = StoreDir::new();
    assert_eq!(look_for_writer(dir.path()), Ok(()));
    let writer = engine.open(&dir.path());
    assert!(matches!(look_for_writer(dir.path()), Err(StorageError::Locked(_))));
    drop(writer);
    let before = dir.tree();
    let reader = engine.read_only(&dir.path());
    assert_eq!(look_for_writer(dir.path()), Ok(()));
    drop(reader);
    assert_eq!(look_for_writer(dir.path()), Ok(()));
    assert!(dir.tree() == before);
}

fn concurrent_creations_make_one_store(engine: Engine) {
    for _ in 0..10 {
        let dir = StoreDir::new();
        let create = || match (engine.open_with)(&dir.path(), Durability::Sync) {
            Ok(store) => Some(id(&store)),
            Err(StorageError::Locked(_)) => None,
            Err(other) => panic!("{other:?}"),
        };
        let ids: Vec<Option<String>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let id = id(&engine.open(&dir.path()));
        assert!(ids.iter().flatten().all(|created| *created == id), "{ids:?}");
        assert!(ids.iter().any(Option::is_some));
        assert_eq!(dir.names(), ["store"]);
    }
}

#[cfg(unix)]
fn a_linked_lock_file_is_refused(engine: Engine) {
    if !engine.is_directory {
        return;
    }
    let dir = StoreDir::new();
    drop(engine.open(&dir.path()));
    let lock = dir.path().join(engine.lock_file);
    for exists in [true, false] {
        let important = dir.at("important");
        fs::write(&important, "important").unwrap();
        fs::remove_file(&lock).unwrap();
        let target = if exists { important.clone() } else { dir.at("missing") };
        std::os::unix::fs::symlink(&target, &lock).unwrap();
        let Err(StorageError::IoError(detail)) = (engine.open_with)(&dir.path(), Durability::Sync)
        else {
            panic!("opened")
        };
        assert!(detail.contains("is a symbolic link"), "{detail}");
        assert_eq!(fs::read(&important).unwrap(), b"important");
        assert_eq!(target.exists(), exists);
    }
}

test_each_engine! {
    a_second_writer_is_refused_with_the_first,
    a_writer_waits_for_a_short_shared_lock,
    look_for_writer_finds_writers_only,
    concurrent_creations_make_one_store,
}

#[cfg(unix)]
mod unix {
    use super::a_linked_lock_file_is_refused;

    test_each_engine! { a_linked_lock_file_is_refused }
}
