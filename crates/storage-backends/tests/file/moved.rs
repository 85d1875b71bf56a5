//! A store whose path leads to another store or elsewhere.

#![cfg(unix)]

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>, place: &Place) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { key: None, .. }), "{error:?}");
    error.to_string().replace(&*place.path().to_string_lossy(), "STORE")
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Writes of every kind.
fn writes(storage: &FileStorage) -> [Result<(), StorageError>; 5] {
    let several = Commit::new().set("a/b/c/1", "first".into()).set("d/e/f/2", "first".into());
    let checked = Commit::new().require_value("a/b/c/1", "old".into()).set("a/b/c/1", "x".into());
    [
        storage.set("a/b/c/1", "first".into()),
        storage.set("new/com/ponent/1", "first".into()),
        storage.delete("a/b/c/1"),
        storage.commit(several).map(drop),
        storage.commit(checked).map(drop),
    ]
}

#[test]
fn a_store_that_was_replaced_while_open_is_not_written_to() {
    for durability in [Durability::Sync, Durability::Os] {
        let place = Place::new();
        let away = place.path().with_extension("old");
        let options = FileOptions::default().with_durability(durability);
        let first = FileStorage::open(place.path(), options).unwrap();
        first.set("a/b/c/1", "old".into()).unwrap();
        fs::rename(place.path(), &away).unwrap();
        copy_tree(&away, &place.path());
        let second = open(&place.path());
        second.set("a/b/c/1", "second".into()).unwrap();
        let before = place.tree();
        for result in writes(&first) {
            insta::allow_duplicates! {
                insta::assert_snapshot!(refused(result, &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; nothing was written; restart this process to use what is there now");
            }
        }
        if durability == Durability::Os {
            insta::assert_snapshot!(refused(first.flush(), &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; earlier writes are in the store that was opened; restart this process to use what is there now");
        }
        assert_eq!(place.tree(), before);
        // Nothing of the other store is kept in memory.
        second.set("the/other/one/1", "second".into()).unwrap();
        let budget = Budget { max_bytes: 1_000, max_keys: 1 };
        let counted = Commit::new().set("the/other/one/1", "first".into()).with_budget(budget);
        for listed in [
            first.list_keys(Some("the/other/one/")).map(drop),
            first.list_components(None, 9).map(drop),
            first.usage(Some("the/other/one/")).map(drop),
            first.commit(counted.clone()).map(drop),
        ] {
            refused(listed, &place);
        }
        assert_eq!(second.get("a/b/c/1"), Ok(Some("second".into())));
        second.set("a/b/c/1", "again".into()).unwrap();
        drop(second);

        // Back at its path it works again, and no key is indeterminate.
        fs::remove_dir_all(place.path()).unwrap();
        fs::rename(&away, place.path()).unwrap();
        assert_eq!(first.get("a/b/c/1"), Ok(Some("old".into())));
        writes(&first).into_iter().take(4).for_each(|result| result.unwrap());
        first.flush().unwrap();
        assert_eq!(first.list_keys(Some("the/other/one/")), Ok(Vec::new()));
        first.commit(counted).unwrap();
        assert_eq!(first.usage(Some("the/other/one/")).unwrap().keys, 1);
        assert_eq!(first.get("d/e/f/2"), Ok(Some("first".into())));
    }
}

#[test]
fn a_store_that_was_moved_away_is_not_created_again() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("a/b/c/1", "old".into()).unwrap();
    fs::rename(place.path(), place.path().with_extension("old")).unwrap();
    for result in writes(&storage) {
        refused(result, &place);
    }
    assert!(!place.path().exists());
}

mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_dangling_link_is_an_error_that_names_its_target() {
        let place = Place::new();
        let target = place.path().with_file_name("unmounted").join("store");
        symlink(&target, place.path()).unwrap();
        let results = [
            FileStorage::open(place.path(), FileOptions::default()).map(drop),
            FileStorage::open_read_only(place.path(), FileOptions::default()).map(drop),
            FileStorage::verify(place.path(), &mut |_| {}).map(drop),
            FileStorage::open(place.path().join("below"), FileOptions::default()).map(drop),
        ];
        let expected = format!(
            "{} is a symbolic link to {}, which does not exist; ",
            place.path().display(),
            target.display()
        );
        for result in results {
            let Err(StorageError::IoError(detail)) = result else { panic!("{result:?}") };
            assert!(detail.contains(&expected), "{detail}");
        }
        assert!(place.path().is_symlink() && !target.exists());
    }

    #[test]
    fn a_store_stays_at_the_target_that_its_link_had_when_opened() {
        let place = Place::new();
        let at = |name: &str| place.path().with_file_name(name);
        symlink(at("one"), place.path()).unwrap();
        fs::create_dir(at("one")).unwrap();
        let storage = open(&place.path());
        storage.set("a/b/c/1", "one".into()).unwrap();
        fs::remove_file(place.path()).unwrap();
        fs::create_dir(at("two")).unwrap();
        symlink(at("two"), place.path()).unwrap();
        open(&place.path()).set("a/b/c/1", "two".into()).unwrap();
        storage.set("a/b/c/1", "still one".into()).unwrap();
        drop(storage);
        assert_eq!(read_only(&at("one")).get("a/b/c/1"), Ok(Some("still one".into())));
        assert_eq!(read_only(&at("two")).get("a/b/c/1"), Ok(Some("two".into())));
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_refused() {
        let place = Place::new();
        drop(open(&place.path()));
        let lock = place.path().join("LOCK");
        for exists in [true, false] {
            let important = place.path().with_file_name("important");
            fs::write(&important, "important").unwrap();
            fs::remove_file(&lock).unwrap();
            let target = if exists { important.clone() } else { important.with_extension("new") };
            symlink(&target, &lock).unwrap();
            let result = FileStorage::open(place.path(), FileOptions::default());
            let Err(StorageError::IoError(detail)) = result else { panic!("{result:?}") };
            assert!(detail.contains("LOCK is a symbolic link"), "{detail}");
            assert_eq!(fs::read(&important).unwrap(), b"important");
            assert_eq!(target.exists(), exists);
        }
    }
}
