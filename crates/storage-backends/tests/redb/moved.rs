//! A store whose path is taken by another one, or leads elsewhere.

#![cfg(unix)]

use super::*;

fn refused<T: std::fmt::Debug>(result: Result<T, StorageError>, place: &Place) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { key: None, .. }), "{error:?}");
    error.to_string().replace(&*place.path().to_string_lossy(), "STORE")
}

fn away(place: &Place) -> PathBuf {
    place.path().with_extension("old")
}

#[test]
fn a_replaced_store_is_not_written_to() {
    for options in [RedbOptions::default(), relaxed()] {
        let place = Place::new();
        let first = RedbStorage::open(place.path(), options).unwrap();
        first.set("a/b/c/1", "old".into()).unwrap();
        first.flush().unwrap();
        fs::rename(place.path(), away(&place)).unwrap();
        fs::copy(away(&place), place.path()).unwrap();
        let second = open(&place.path());
        second.set("a/b/c/1", "second".into()).unwrap();
        let before = (fs::read(away(&place)).unwrap(), place.bytes());
        let budget = Budget { max_bytes: 1_000, max_keys: 10 };
        for result in [
            first.set("a/b/c/1", "first".into()),
            first.delete("a/b/c/1"),
            first
                .commit(Commit::new().set("d/e/f/1", "first".into()).with_budget(budget))
                .map(drop),
        ] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(refused(result, &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; nothing was written; restart this process to use what is there now");
            }
        }
        assert!((fs::read(away(&place)).unwrap(), place.bytes()) == before);
        assert_eq!(first.get("a/b/c/1"), Ok(Some("old".into())));
        assert_eq!(second.get("a/b/c/1"), Ok(Some("second".into())));
        second.set("a/b/c/1", "again".into()).unwrap();
        drop(second);

        // Back in its place it goes on.
        fs::rename(away(&place), place.path()).unwrap();
        first.set("a/b/c/1", "first".into()).unwrap();
        first.flush().unwrap();
        drop(first);
        assert_eq!(read_only(&place.path()).get("a/b/c/1"), Ok(Some("first".into())));
        place.has_no_problems();
    }
}

/// The last moment of a relaxed store is in memory.
#[test]
fn a_moved_store_keeps_its_acknowledged_writes() {
    let place = Place::new();
    let storage = RedbStorage::open(place.path(), relaxed()).unwrap();
    storage.set("a/b/c/1", "acknowledged".into()).unwrap();
    fs::rename(place.path(), away(&place)).unwrap();
    refused(storage.set("a/b/c/2", "too late".into()), &place);
    insta::assert_snapshot!(refused(storage.flush(), &place), @"the store is unavailable: the store at STORE was moved or replaced while it was open; earlier writes are in the store that was opened; restart this process to use what is there now");
    assert!(!place.path().exists());
    drop(storage);
    let moved = read_only(&away(&place));
    assert_eq!(moved.list_keys(None).unwrap(), ["a/b/c/1"]);
    assert_eq!(moved.get("a/b/c/1"), Ok(Some("acknowledged".into())));
}

mod links {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn at(place: &Place, name: &str) -> PathBuf {
        place.0.path().join(name)
    }

    #[test]
    fn files_next_to_a_new_store_are_unchanged() {
        let place = Place::new();
        let beside = at(&place, "store.redb.new");
        fs::write(at(&place, "important"), "important").unwrap();
        fs::set_permissions(at(&place, "important"), fs::Permissions::from_mode(0o666)).unwrap();
        symlink("important", &beside).unwrap();
        open(&place.path()).set("a/b/c/1", "x".into()).unwrap();
        assert_eq!(fs::read(at(&place, "important")).unwrap(), b"important");
        assert!(beside.is_symlink());
        let found = fs::symlink_metadata(place.path()).unwrap();
        assert!(found.is_file());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);

        // Another store has that name.
        fs::remove_file(&beside).unwrap();
        open(&beside).set("a/b/c/1", "mine".into()).unwrap();
        fs::remove_file(place.path()).unwrap();
        drop(open(&place.path()));
        assert_eq!(read_only(&beside).get("a/b/c/1"), Ok(Some("mine".into())));
        let mut names = place.names();
        names.sort();
        assert_eq!(names, ["important", "store.redb", "store.redb.new"]);
    }

    #[test]
    fn a_store_replaces_an_empty_file_but_not_with_its_mode() {
        let place = Place::with(b"");
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o666)).unwrap();
        open(&place.path()).set("a/b/c/1", "x".into()).unwrap();
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(place.names(), ["store.redb"]);
    }

    #[test]
    fn a_link_to_an_empty_file_is_kept() {
        let place = Place::new();
        fs::create_dir(at(&place, "disk")).unwrap();
        fs::write(at(&place, "disk/real.redb"), "").unwrap();
        symlink("disk/real.redb", place.path()).unwrap();
        open(&place.path()).set("a/b/c/1", "x".into()).unwrap();
        assert!(place.path().is_symlink());
        assert_eq!(fs::read_dir(at(&place, "disk")).unwrap().count(), 1);
        for path in [place.path(), at(&place, "disk/real.redb")] {
            assert_eq!(read_only(&path).get("a/b/c/1"), Ok(Some("x".into())));
        }
    }

    #[test]
    fn a_dangling_link_is_an_error_with_its_target() {
        let place = Place::new();
        let target = at(&place, "unmounted/store.redb");
        symlink(&target, place.path()).unwrap();
        let told = [
            RedbStorage::open(place.path(), RedbOptions::default()).map(drop),
            RedbStorage::open_read_only(place.path(), RedbOptions::default()).map(drop),
            RedbStorage::verify(place.path(), &mut |_| {}).map(drop),
            RedbStorage::open(place.path().join("below"), RedbOptions::default()).map(drop),
        ];
        let expected = format!(
            "{} is a symbolic link to {}, which does not exist; ",
            place.path().display(),
            target.display()
        );
        for result in told {
            let Err(StorageError::IoError(detail)) = result else { panic!("{result:?}") };
            assert!(detail.contains(&expected), "{detail}");
        }
        assert_eq!(place.names(), ["store.redb"]);
        assert!(place.path().is_symlink());
    }
}
