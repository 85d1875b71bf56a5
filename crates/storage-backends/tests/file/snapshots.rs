use super::*;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Long enough for a write that does not wait for the snapshot.
const PATIENCE: Duration = Duration::from_secs(60);

fn snapshot(storage: &FileStorage) -> Result<Vec<(String, StorageValue)>, StorageError> {
    let mut found = Vec::new();
    let visited = storage.read_snapshot("", None, &mut |key, value| {
        found.push((key.to_owned(), value));
        Ok(())
    });
    visited.map(|()| found)
}

fn numbered(number: usize) -> String {
    format!("app/notes/home/{number:04}")
}

/// A store with more keys than one page of a scan.
fn filled(place: &Place) -> FileStorage {
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options).unwrap();
    for number in 0..600 {
        storage.set(&numbered(number), "old".into()).unwrap();
    }
    storage
}

#[test]
fn a_reader_sees_pending_commits_and_changes_nothing() {
    let place = Place::new();
    fixture::copy_to(&place);
    let before = place.tree();
    assert_eq!(snapshot(&read_only(&place.path())).unwrap(), support::first_format());
    assert_eq!(place.tree(), before);
}

#[test]
fn a_snapshot_has_what_was_written_after_the_reader_was_opened() {
    let place = Place::new();
    drop(open(&place.path()));
    let reader = read_only(&place.path());
    assert_eq!(snapshot(&reader).unwrap(), []);
    fs::remove_dir_all(place.path()).unwrap();
    fixture::copy_to(&place);
    assert_eq!(snapshot(&reader).unwrap(), support::first_format());
}

#[test]
fn a_reader_is_refused_while_a_writer_has_the_store_open() {
    let place = Place::new();
    let writer = open(&place.path());
    writer.set("a/b/c/1", "x".into()).unwrap();
    let reader = read_only(&place.path());
    let refused = reader.read_snapshot("", None, &mut |key, _| panic!("visited {key}"));
    let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("has it open for writing"), "{detail}");
    drop(writer);
    assert_eq!(snapshot(&reader).unwrap().len(), 1);
}

#[test]
fn a_snapshot_of_a_reader_keeps_writers_out_but_not_readers() {
    let place = Place::new();
    fixture::copy_to(&place);
    drop(open(&place.path()));
    let reader = read_only(&place.path());
    reader
        .read_snapshot("", None, &mut |_, _| {
            let refused = FileStorage::open(place.path(), FileOptions::default());
            let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
            assert!(detail.contains("is reading it; retry when"), "{detail}");
            assert_eq!(snapshot(&read_only(&place.path())).unwrap(), support::first_format());
            Err(StorageError::QuotaExceeded)
        })
        .unwrap_err();
    open(&place.path());
}

#[test]
fn a_writer_waits_for_a_short_shared_lock() {
    let place = Place::new();
    drop(open(&place.path()));
    let file = fs::File::open(place.path().join("LOCK")).unwrap();
    file.lock_shared().unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| drop(open(&place.path())));
        thread::sleep(Duration::from_millis(40));
        drop(file);
        writer.join().unwrap();
    });
}

#[test]
fn a_store_without_a_lock_file_is_read_unless_a_writer_opens_it() {
    let place = Place::new();
    fixture::copy_to(&place);
    fs::remove_file(place.path().join("LOCK")).unwrap();
    let reader = read_only(&place.path());
    assert_eq!(snapshot(&reader).unwrap(), support::first_format());
    let mut writer = None;
    let read = reader.read_snapshot("", None, &mut |_, _| {
        writer.get_or_insert_with(|| open(&place.path()));
        Ok(())
    });
    assert!(matches!(read, Err(StorageError::Unavailable { key: None, .. })), "{read:?}");
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_a_store_that_is_replaced_fails() {
    let place = Place::new();
    fixture::copy_to(&place);
    let reader = read_only(&place.path());
    let moved = place.path().with_file_name("moved");
    let read = reader.read_snapshot("", None, &mut |_, _| {
        if !moved.exists() {
            fs::rename(place.path(), &moved).unwrap();
            fixture::copy_to(&place);
        }
        Ok(())
    });
    assert!(matches!(read, Err(StorageError::Unavailable { key: None, .. })), "{read:?}");
}

#[test]
fn only_writes_to_keys_that_the_snapshot_has_not_reached_wait() {
    let place = Place::new();
    let storage = filled(&place);
    let (first, last) = (numbered(0), numbered(599));
    let (sender, receiver) = mpsc::channel();
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let write = |keys: Vec<String>, name: &'static str| {
            let (sender, storage) = (sender.clone(), &storage);
            scope.spawn(move || {
                let commit =
                    keys.iter().fold(Commit::new(), |commit, key| commit.set(key, "new".into()));
                storage.commit(commit).unwrap();
                sender.send(name).unwrap();
            });
        };
        storage
            .read_snapshot("app/notes/home/", None, &mut |key, value| {
                seen.push((key.to_owned(), value));
                if *key == numbered(100) {
                    write(vec![numbered(300)], "reached later");
                }
                if *key == numbered(599) {
                    // It waited until the scan had passed its key, not for its end.
                    assert_eq!(receiver.recv_timeout(PATIENCE), Ok("reached later"));
                }
                if *key == numbered(400) {
                    write(vec![last.clone()], "ahead");
                    write(vec![first.clone(), last.clone()], "both");
                    write(vec![first.clone()], "behind");
                    write(vec!["app/notes/work/1".to_owned()], "elsewhere");
                    let mut done = [(); 2].map(|()| receiver.recv_timeout(PATIENCE).unwrap());
                    done.sort_unstable();
                    assert_eq!(done, ["behind", "elsewhere"]);
                    assert_eq!(storage.get(&last), Ok(Some("old".into())), "reads go on");
                }
                Ok(())
            })
            .unwrap();
        let mut done = [(); 2].map(|()| receiver.recv_timeout(PATIENCE).unwrap());
        done.sort_unstable();
        assert_eq!(done, ["ahead", "both"]);
    });
    assert_eq!(seen.len(), 600);
    assert!(seen.iter().all(|(_, value)| *value == "old".into()));
    assert_eq!(storage.get(&last), Ok(Some("new".into())));
}

#[test]
fn writes_go_on_after_a_snapshot_fails_or_panics() {
    let place = Place::new();
    let storage = filled(&place);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        storage.read_snapshot("", None, &mut |_, _| panic!("the visitor fails"))
    }));
    panicked.unwrap_err();
    storage.read_snapshot("", None, &mut |_, _| Err(StorageError::ReadOnly)).unwrap_err();
    storage.set(&numbered(599), "new".into()).unwrap();
}

#[test]
fn a_damaged_value_ends_the_snapshot_with_its_key() {
    let place = Place::new();
    let storage = filled(&place);
    let file = place.path().join("components").join(numbered(2));
    fs::write(&file, "damaged").unwrap();
    let check = |storage: &FileStorage| {
        let mut keys = Vec::new();
        let read = storage.read_snapshot("", None, &mut |key, _| {
            keys.push(key.to_owned());
            Ok(())
        });
        let damaged = Some(numbered(2));
        assert!(matches!(&read, Err(StorageError::Corrupt { key, .. }) if *key == damaged));
        assert_eq!(keys, [numbered(0), numbered(1)]);
    };
    check(&storage);
    drop(storage);
    check(&read_only(&place.path()));
}

#[test]
fn a_file_of_an_invalid_key_is_corrupt() {
    let place = Place::new();
    drop(open(&place.path()));
    let odd = place.path().join("components/app/notes/home%0aevil");
    fs::create_dir_all(&odd).unwrap();
    fs::write(odd.join("k"), "").unwrap();
    let read = snapshot(&read_only(&place.path()));
    assert!(matches!(&read, Err(StorageError::Corrupt { key: Some(key), .. })
        if key == "app/notes/home\nevil/k"));
}
