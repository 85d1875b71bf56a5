use super::*;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Long enough for a write that does not wait for the snapshot.
const TIMEOUT: Duration = Duration::from_secs(60);

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
fn filled(dir: &StoreDir) -> FileStorage {
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(dir.path(), options).unwrap();
    for number in 0..600 {
        storage.set(&numbered(number), "old".into()).unwrap();
    }
    storage
}

#[test]
fn a_reader_sees_pending_commits_and_changes_nothing() {
    let dir = StoreDir::fixture("file-format-1");
    let before = dir.tree();
    assert_eq!(snapshot(&read_only(&dir.path())).unwrap(), support::first_format());
    assert_eq!(dir.tree(), before);
}

#[test]
fn a_snapshot_has_what_was_written_after_the_reader_was_opened() {
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    let reader = read_only(&dir.path());
    assert_eq!(snapshot(&reader).unwrap(), []);
    fs::remove_dir_all(dir.path()).unwrap();
    dir.copy_fixture("file-format-1");
    assert_eq!(snapshot(&reader).unwrap(), support::first_format());
}

#[test]
fn a_reader_is_refused_while_a_writer_has_the_store_open() {
    let dir = StoreDir::new();
    let writer = open(&dir.path());
    writer.set("a/b/c/1", "x".into()).unwrap();
    let reader = read_only(&dir.path());
    let refused = reader.read_snapshot("", None, &mut |key, _| panic!("visited {key}"));
    let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("has it open for writing"), "{detail}");
    drop(writer);
    assert_eq!(snapshot(&reader).unwrap().len(), 1);
}

#[test]
fn a_snapshot_of_a_reader_keeps_writers_out_but_not_readers() {
    let dir = StoreDir::fixture("file-format-1");
    drop(open(&dir.path()));
    let reader = read_only(&dir.path());
    reader
        .read_snapshot("", None, &mut |_, _| {
            let refused = FileStorage::open(dir.path(), FileOptions::default());
            let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
            assert!(detail.contains("is reading it; retry when"), "{detail}");
            assert_eq!(snapshot(&read_only(&dir.path())).unwrap(), support::first_format());
            Err(StorageError::QuotaExceeded)
        })
        .unwrap_err();
    open(&dir.path());
}

#[test]
fn a_store_without_a_lock_file_is_read_unless_a_writer_opens_it() {
    let dir = StoreDir::fixture("file-format-1");
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    let reader = read_only(&dir.path());
    assert_eq!(snapshot(&reader).unwrap(), support::first_format());
    let mut writer = None;
    let read = reader.read_snapshot("", None, &mut |_, _| {
        writer.get_or_insert_with(|| open(&dir.path()));
        Ok(())
    });
    assert!(matches!(read, Err(StorageError::Unavailable { key: None, .. })), "{read:?}");
}

#[cfg(unix)]
#[test]
fn a_snapshot_of_a_store_that_is_replaced_fails() {
    let dir = StoreDir::fixture("file-format-1");
    let reader = read_only(&dir.path());
    let moved = dir.at("moved");
    let read = reader.read_snapshot("", None, &mut |_, _| {
        if !moved.exists() {
            fs::rename(dir.path(), &moved).unwrap();
            dir.copy_fixture("file-format-1");
        }
        Ok(())
    });
    assert!(matches!(read, Err(StorageError::Unavailable { key: None, .. })), "{read:?}");
}

#[test]
fn only_writes_to_keys_that_the_snapshot_has_not_reached_wait() {
    let dir = StoreDir::new();
    let storage = filled(&dir);
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
                    assert_eq!(receiver.recv_timeout(TIMEOUT), Ok("reached later"));
                }
                if *key == numbered(400) {
                    write(vec![last.clone()], "ahead");
                    write(vec![first.clone(), last.clone()], "both");
                    write(vec![first.clone()], "behind");
                    write(vec!["app/notes/work/1".to_owned()], "elsewhere");
                    let mut done = [(); 2].map(|()| receiver.recv_timeout(TIMEOUT).unwrap());
                    done.sort_unstable();
                    assert_eq!(done, ["behind", "elsewhere"]);
                    assert_eq!(storage.get(&last), Ok(Some("old".into())), "reads go on");
                }
                Ok(())
            })
            .unwrap();
        let mut done = [(); 2].map(|()| receiver.recv_timeout(TIMEOUT).unwrap());
        done.sort_unstable();
        assert_eq!(done, ["ahead", "both"]);
    });
    assert_eq!(seen.len(), 600);
    assert!(seen.iter().all(|(_, value)| *value == "old".into()));
    assert_eq!(storage.get(&last), Ok(Some("new".into())));
}

#[test]
fn a_file_of_an_invalid_key_is_corrupt() {
    let dir = StoreDir::new();
    drop(open(&dir.path()));
    let odd = dir.path().join("components/app/notes/home%0aevil");
    fs::create_dir_all(&odd).unwrap();
    fs::write(odd.join("k"), "").unwrap();
    let read = snapshot(&read_only(&dir.path()));
    assert!(matches!(&read, Err(StorageError::Corrupt { key: Some(key), .. })
        if key == "app/notes/home\nevil/k"));
}
