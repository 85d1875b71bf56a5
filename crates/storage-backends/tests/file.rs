//! The file store: what it promises beyond the contract of every store.
#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test support")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use storage_backends::{Durability, FileOptions, FileStorage};
use storage_core::{
    Budget, Commit, ComponentId, ComponentStorage, NamespacedStorage, PageRequest, StorageError,
    StorageValue,
};

fn open(path: &Path) -> FileStorage {
    FileStorage::open(path, FileOptions::default()).unwrap()
}

fn read_only(path: &Path) -> FileStorage {
    FileStorage::open_read_only(path, FileOptions::default()).unwrap()
}

/// A folder for a store, gone at the end of the test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("store")
    }

    /// Every file below, with its bytes.
    fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files_below(&self.path())
    }
}

fn files_below(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

mod contract {
    //! The conformance suite.
    use super::*;
    use std::sync::Arc;
    use storage_core::conformance::{Implementation, run};

    fn implementation(options: FileOptions) -> Implementation {
        Implementation::lasting("file", move || {
            let (place, options) = (Place::new(), options.clone());
            move || FileStorage::open(place.path(), options.clone()).unwrap()
        })
    }

    fn unsynced() -> FileOptions {
        FileOptions::default().with_durability(Durability::Os)
    }

    #[rstest]
    #[case::synced(FileOptions::default())]
    #[case::unsynced(unsynced())]
    #[case::without_room_for_indexes(unsynced().with_index_budget_bytes(0))]
    fn bare(#[case] options: FileOptions) {
        run(&implementation(options));
    }

    #[test]
    fn under_a_namespace() {
        run(&implementation(unsynced()).namespaced());
    }

    #[test]
    fn as_an_arc() {
        run(&implementation(unsynced())
            .wrapped("an arc of file", Arc::<dyn ComponentStorage>::from));
    }
}

mod opening {
    use super::*;

    fn refusal(result: Result<FileStorage, StorageError>, place: &Place) -> String {
        let message = result.unwrap_err().to_string();
        message
            .replace(&*place.path().to_string_lossy(), "STORE")
            .replace(&std::process::id().to_string(), "PID")
    }

    fn both(place: &Place) -> [String; 2] {
        [
            refusal(FileStorage::open(place.path(), FileOptions::default()), place),
            refusal(FileStorage::open_read_only(place.path(), FileOptions::default()), place),
        ]
    }

    #[test]
    fn a_missing_store_is_made_by_a_writer_and_refused_by_a_reader() {
        let place = Place::new();
        let result = FileStorage::open_read_only(place.path(), FileOptions::default());
        insta::assert_snapshot!(refusal(result, &place), @"storage failed: STORE does not exist; a store is made when something is first written to it");
        assert!(!place.path().exists(), "a reader makes nothing");
        drop(open(&place.path()));
        read_only(&place.path());
    }

    #[test]
    fn a_file_is_no_store() {
        let place = Place::new();
        fs::write(place.path(), "text").unwrap();
        insta::assert_snapshot!(both(&place).join("\n"), @r"
        storage failed: STORE is a file, not the folder of a store
        storage failed: STORE is a file, not the folder of a store
        ");
        assert_eq!(fs::read(place.path()).unwrap(), b"text");
    }

    #[test]
    fn a_folder_of_other_files_is_left_alone() {
        let place = Place::new();
        fs::create_dir(place.path()).unwrap();
        fs::write(place.path().join("thesis.txt"), "text").unwrap();
        let before = place.tree();
        insta::assert_snapshot!(both(&place).join("\n"), @r"
        storage failed: STORE holds files that belong to no store; give the path of a store, or of an empty or missing folder
        storage failed: STORE is no store; a store is made when something is first written to it
        ");
        assert_eq!(place.tree(), before);
    }

    #[test]
    fn a_second_writer_is_told_who_has_the_store() {
        let place = Place::new();
        let first = open(&place.path());
        let second = FileStorage::open(place.path(), FileOptions::default());
        assert!(matches!(second, Err(StorageError::Locked(_))));
        insta::assert_snapshot!(refusal(second, &place), @"the store is locked: process PID has STORE open; end it, or ask it for the data");
        first.set("a/b/c/still", "works".into()).unwrap();
        drop(first);
        open(&place.path());
    }

    #[test]
    fn another_format_is_refused_with_its_version() {
        let place = Place::new();
        drop(open(&place.path()));
        let format = place.path().join("FORMAT");
        fs::write(&format, "airssys file store\nformat: 2\nstore-id: 00\n").unwrap();
        let before = place.tree();
        insta::assert_snapshot!(both(&place).join("\n"), @r"
        not supported: the store in STORE has format 2, this program knows format 1; use the release that wrote it
        not supported: the store in STORE has format 2, this program knows format 1; use the release that wrote it
        ");
        let ours = |(path, _): &(PathBuf, Vec<u8>)| !path.ends_with("LOCK");
        assert!(place.tree().into_iter().filter(ours).eq(before.into_iter().filter(ours)));
    }

    #[test]
    fn a_store_has_an_id_of_its_own() {
        let [one, other] = [Place::new(), Place::new()];
        let id = open(&one.path()).store_id().to_owned();
        assert_eq!(read_only(&one.path()).store_id(), id);
        assert_ne!(open(&other.path()).store_id(), id);
    }
}

mod damage {
    use super::*;

    const KEY: &str = "app/notes/home/note-1";

    fn damaged(place: &Place, key: &str) {
        for storage in [read_only(&place.path()), open(&place.path())] {
            match storage.get(key) {
                Err(StorageError::Corrupt { key: Some(named), detail }) => {
                    assert_eq!(named, key);
                    assert!(detail.contains("restore the file"), "{detail}");
                }
                other => panic!("{other:?}"),
            }
            assert!(storage.get_versioned(key).is_err());
            assert!(storage.get_many(&[key]).is_err());
        }
    }

    #[test]
    fn every_flipped_byte_of_a_value_is_found() {
        let place = Place::new();
        open(&place.path()).set(KEY, "buy milk".into()).unwrap();
        let file = place.path().join("components/app/notes/home/note-1");
        let whole = fs::read(&file).unwrap();
        let reader = read_only(&place.path());
        for at in 0..whole.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                fs::write(&file, bytes).unwrap();
                let found = reader.get(KEY);
                assert!(matches!(found, Err(StorageError::Corrupt { .. })), "{at}: {found:?}");
            }
        }
        damaged(&place, KEY);
        fs::write(&file, whole).unwrap();
        assert_eq!(reader.get(KEY), Ok(Some("buy milk".into())));
    }

    #[test]
    fn every_truncation_of_a_value_is_found() {
        let place = Place::new();
        open(&place.path()).set(KEY, "buy milk".into()).unwrap();
        let file = place.path().join("components/app/notes/home/note-1");
        let whole = fs::read(&file).unwrap();
        let reader = read_only(&place.path());
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            let found = reader.get(KEY);
            assert!(matches!(found, Err(StorageError::Corrupt { .. })), "{len}: {found:?}");
        }
    }

    #[rstest]
    #[case::of_the_same_component("app/notes/home/note-2")]
    #[case::of_another_component("app/notes/work/note-1")]
    fn a_file_of_another_key_is_found(#[case] other: &str) {
        let place = Place::new();
        let storage = open(&place.path());
        storage.set(KEY, "mine".into()).unwrap();
        storage.set(other, "theirs".into()).unwrap();
        drop(storage);
        let components = place.path().join("components");
        fs::copy(components.join(other), components.join(KEY)).unwrap();
        damaged(&place, KEY);
    }

    #[test]
    fn a_damaged_key_can_be_listed_written_and_deleted() {
        let place = Place::new();
        let storage = open(&place.path());
        for key in [KEY, "app/notes/home/note-2"] {
            storage.set(key, "whole".into()).unwrap();
            fs::write(place.path().join("components").join(key), "damaged").unwrap();
        }
        assert_eq!(storage.list_keys(None).unwrap().len(), 2);
        storage.set(KEY, "whole again".into()).unwrap();
        assert_eq!(storage.get(KEY), Ok(Some("whole again".into())));
        storage.delete("app/notes/home/note-2").unwrap();
        assert_eq!(storage.list_keys(None).unwrap(), [KEY]);
    }

    #[test]
    fn damage_to_the_journal_is_found_and_loses_nothing() {
        let place = Place::new();
        fixture::copy_to(&place);
        let journal = files_below(&place.path().join("journal"));
        let (file, whole) = journal.into_iter().next().unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&file, bytes).unwrap();
            let options = FileOptions::default;
            for result in [
                FileStorage::open_read_only(place.path(), options()),
                FileStorage::open(place.path(), options()),
            ] {
                assert!(matches!(result, Err(StorageError::Corrupt { key: None, .. })), "{at}");
            }
        }
        fs::write(&file, whole).unwrap();
        assert_eq!(fixture::contents(&open(&place.path())), fixture::expected());
    }

    #[test]
    fn a_long_key_is_listed_although_its_value_is_damaged() {
        let place = Place::new();
        let key = format!("app/notes/home/{}", "k".repeat(1000));
        open(&place.path()).set(&key, "value".into()).unwrap();
        let (file, mut bytes) =
            files_below(&place.path().join("components")).into_iter().next().unwrap();
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        fs::write(&file, &bytes).unwrap();
        let reader = read_only(&place.path());
        assert_eq!(reader.list_keys(None), Ok(vec![key.clone()]));
        damaged(&place, &key);
        // Damage to the key itself leaves no name to list.
        bytes[20] ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(matches!(reader.list_keys(None), Err(StorageError::Corrupt { .. })));
    }
}

mod reading_only {
    use super::*;

    #[test]
    fn nothing_is_written_and_nothing_created() {
        let place = Place::new();
        fixture::copy_to(&place);
        let before = place.tree();
        let reader = read_only(&place.path());
        assert_eq!(fixture::contents(&reader), fixture::expected());
        reader.usage(None).unwrap();
        reader.list_partitions(None, 10).unwrap();
        reader.flush().unwrap();
        let refused = [
            reader.set("a/b/c/d", "x".into()),
            reader.delete("app/notes/home/a"),
            reader.put("a/b/c/d", "x".into()).map(drop),
            reader.commit(Commit::new()).map(drop),
        ];
        assert!(refused.iter().all(|result| *result == Err(StorageError::ReadOnly)));
        drop(reader);
        assert_eq!(place.tree(), before);
    }

    #[test]
    fn a_running_writer_is_seen() {
        let place = Place::new();
        let writer = open(&place.path());
        let reader = read_only(&place.path());
        for number in 0..20 {
            let key = format!("app/notes/n{}/note-{number}", number % 3);
            writer.set(&key, "text".into()).unwrap();
            assert_eq!(reader.get(&key), Ok(Some("text".into())));
            assert_eq!(reader.list_keys(None), writer.list_keys(None));
            assert_eq!(reader.usage(None), writer.usage(None));
            assert_eq!(reader.list_partitions(None, 9), writer.list_partitions(None, 9));
        }
    }
}

mod snapshots {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    /// Long enough for anything that does not wait for a walk.
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

    /// More keys than a walk lists at a time.
    fn filled(place: &Place) -> FileStorage {
        let options = FileOptions::default().with_durability(Durability::Os);
        let storage = FileStorage::open(place.path(), options).unwrap();
        for number in 0..600 {
            storage.set(&numbered(number), "old".into()).unwrap();
        }
        storage
    }

    #[test]
    fn a_reader_sees_unfinished_commits_and_changes_nothing() {
        let place = Place::new();
        fixture::copy_to(&place);
        let before = place.tree();
        assert_eq!(snapshot(&read_only(&place.path())).unwrap(), fixture::expected());
        assert_eq!(place.tree(), before);
    }

    #[test]
    fn a_reader_sees_what_came_after_it_was_opened() {
        let place = Place::new();
        drop(open(&place.path()));
        let reader = read_only(&place.path());
        assert_eq!(snapshot(&reader).unwrap(), []);
        fs::remove_dir_all(place.path()).unwrap();
        fixture::copy_to(&place);
        assert_eq!(snapshot(&reader).unwrap(), fixture::expected());
    }

    #[test]
    fn a_reader_beside_a_writer_is_told_who_writes() {
        let place = Place::new();
        let writer = open(&place.path());
        writer.set("a/b/c/1", "x".into()).unwrap();
        let reader = read_only(&place.path());
        let refused = reader.read_snapshot("", None, &mut |key, _| panic!("visited {key}"));
        let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
        assert!(detail.contains(&format!("process {} has", std::process::id())), "{detail}");
        drop(writer);
        assert_eq!(snapshot(&reader).unwrap().len(), 1);
    }

    #[test]
    fn writers_cannot_begin_during_a_readers_walk_and_readers_can() {
        let place = Place::new();
        fixture::copy_to(&place);
        drop(open(&place.path()));
        let reader = read_only(&place.path());
        reader
            .read_snapshot("", None, &mut |_, _| {
                let refused = FileStorage::open(place.path(), FileOptions::default());
                let Err(StorageError::Locked(detail)) = refused else { panic!("{refused:?}") };
                assert!(detail.contains("as of one moment"), "{detail}");
                assert_eq!(snapshot(&read_only(&place.path())).unwrap(), fixture::expected());
                Err(StorageError::QuotaExceeded)
            })
            .unwrap_err();
        open(&place.path());
    }

    #[test]
    fn a_look_at_the_lock_does_not_keep_a_writer_out() {
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
    fn a_store_without_its_lock_file_is_read_unless_a_writer_comes() {
        let place = Place::new();
        fixture::copy_to(&place);
        fs::remove_file(place.path().join("LOCK")).unwrap();
        let reader = read_only(&place.path());
        assert_eq!(snapshot(&reader).unwrap(), fixture::expected());
        let mut writer = None;
        let read = reader.read_snapshot("", None, &mut |_, _| {
            writer.get_or_insert_with(|| open(&place.path()));
            Ok(())
        });
        assert!(matches!(read, Err(StorageError::Unavailable { key: None, .. })), "{read:?}");
    }

    #[test]
    fn writers_wait_for_what_is_ahead_of_a_walk_and_for_nothing_else() {
        let place = Place::new();
        let storage = filled(&place);
        let (first, last) = (numbered(0), numbered(599));
        let (said, heard) = mpsc::channel();
        let mut seen = Vec::new();
        thread::scope(|scope| {
            let write = |keys: Vec<String>, name: &'static str| {
                let (said, storage) = (said.clone(), &storage);
                scope.spawn(move || {
                    let commit = keys
                        .iter()
                        .fold(Commit::new(), |commit, key| commit.set(key, "new".into()));
                    storage.commit(commit).unwrap();
                    said.send(name).unwrap();
                });
            };
            storage
                .read_snapshot("app/notes/home/", None, &mut |key, value| {
                    seen.push((key.to_owned(), value));
                    if *key == numbered(100) {
                        write(vec![numbered(300)], "passed later");
                    }
                    if *key == numbered(599) {
                        // It waited for the walk to pass, and not for its end.
                        assert_eq!(heard.recv_timeout(PATIENCE), Ok("passed later"));
                    }
                    if *key == numbered(400) {
                        write(vec![last.clone()], "ahead");
                        write(vec![first.clone(), last.clone()], "both");
                        write(vec![first.clone()], "behind");
                        write(vec!["app/notes/work/1".to_owned()], "elsewhere");
                        let mut done = [(); 2].map(|()| heard.recv_timeout(PATIENCE).unwrap());
                        done.sort_unstable();
                        assert_eq!(done, ["behind", "elsewhere"]);
                        assert_eq!(storage.get(&last), Ok(Some("old".into())), "reads go on");
                    }
                    Ok(())
                })
                .unwrap();
            let mut done = [(); 2].map(|()| heard.recv_timeout(PATIENCE).unwrap());
            done.sort_unstable();
            assert_eq!(done, ["ahead", "both"]);
        });
        assert_eq!(seen.len(), 600);
        assert!(seen.iter().all(|(_, value)| *value == "old".into()));
        assert_eq!(storage.get(&last), Ok(Some("new".into())));
    }

    #[test]
    fn a_walk_that_is_given_up_lets_its_writers_go_on() {
        let place = Place::new();
        let storage = filled(&place);
        let walk = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            storage.read_snapshot("", None, &mut |_, _| panic!("a visitor's own trouble"))
        }));
        walk.unwrap_err();
        storage.read_snapshot("", None, &mut |_, _| Err(StorageError::ReadOnly)).unwrap_err();
        storage.set(&numbered(599), "new".into()).unwrap();
    }

    #[test]
    fn a_damaged_value_ends_the_walk_with_its_key() {
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
    fn a_name_that_no_store_would_give_is_damage() {
        let place = Place::new();
        drop(open(&place.path()));
        let odd = place.path().join("components/app/notes/home%0aevil");
        fs::create_dir_all(&odd).unwrap();
        fs::write(odd.join("k"), "").unwrap();
        let read = snapshot(&read_only(&place.path()));
        assert!(matches!(&read, Err(StorageError::Corrupt { key: Some(key), .. })
            if key == "app/notes/home\nevil/k"));
    }
}

mod verifying {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use storage_backends::{Problem, Verified};

    /// What a check finds; it must leave everything as it was.
    fn verify(place: &Place) -> (Verified, Vec<Problem>) {
        let before = place.tree();
        let mut problems = Vec::new();
        let verified = FileStorage::verify(place.path(), &mut |problem| problems.push(problem));
        assert_eq!(place.tree(), before, "a check changes nothing");
        let verified = verified.unwrap();
        assert_eq!(verified.problems, problems.len() as u64);
        (verified, problems)
    }

    fn shown(place: &Place) -> String {
        let lines: Vec<String> = verify(place).1.iter().map(ToString::to_string).collect();
        lines.join("\n").replace(&*place.path().to_string_lossy(), "STORE")
    }

    /// The fixture, with its commit finished.
    fn settled() -> Place {
        let place = Place::new();
        fixture::copy_to(&place);
        drop(open(&place.path()));
        place
    }

    fn home(place: &Place, name: &str) -> PathBuf {
        place.path().join("components/app/notes/home").join(name)
    }

    fn assert_counted(place: &Place) {
        let (verified, problems) = verify(place);
        assert_eq!(problems, []);
        let store = read_only(&place.path());
        assert_eq!(verified.usage, store.usage(None).unwrap());
        assert_eq!(verified.usage.keys, store.list_keys(None).unwrap().len() as u64);
        let partitions = store.list_partitions(None, usize::MAX).unwrap().keys;
        assert_eq!(verified.partitions, partitions.len() as u64);
    }

    #[test]
    fn a_whole_store_is_counted() {
        assert_counted(&settled());
        let place = Place::new();
        drop(open(&place.path()));
        assert_counted(&place);
        let storage = open(&place.path());
        for key in ["a", "a/b", "A/B/c/d", "a/b/c/d/e/../f", "a/b/c/%", "\u{e9}/\u{e9}/x/y"] {
            storage.set(key, "value".into()).unwrap();
            storage.set(&format!("{key}{}", "k".repeat(900)), "value".into()).unwrap();
        }
        let long = "s".repeat(400);
        storage.set(&format!("{long}/{long}/{long}/k"), "value".into()).unwrap();
        storage.set("a/b/gone/k", "value".into()).unwrap();
        storage.delete("a/b/gone/k").unwrap();
        drop(storage);
        assert_counted(&place);
    }

    #[test]
    fn what_a_writer_would_sweep_or_finish_is_no_problem() {
        let place = Place::new();
        fixture::copy_to(&place);
        fs::write(home(&place, ".tmp-0000000000000001-0"), "half").unwrap();
        fs::write(place.path().join("journal/0000000000000001.tmp"), "half").unwrap();
        // The commit of the fixture will replace it.
        fs::write(home(&place, "by-commit"), "damaged").unwrap();
        assert_counted(&place);
        // One of two slots, as a power cut can leave it.
        let revisions = place.path().join("revisions");
        let mut bytes = fs::read(&revisions).unwrap();
        bytes[3] ^= 1;
        fs::write(&revisions, bytes).unwrap();
        assert_counted(&place);
    }

    #[test]
    fn every_flipped_byte_of_a_value_is_found() {
        let place = settled();
        let file = home(&place, "by-commit");
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            let (_, problems) = verify(&place);
            let [problem] = &problems[..] else { panic!("byte {at}: {problems:?}") };
            assert_eq!(problem.place, file.to_string_lossy());
            assert_eq!(problem.key.as_deref(), Some("app/notes/home/by-commit"));
        }
    }

    #[test]
    fn each_kind_of_damage_has_its_place() {
        type Harm = fn(&Place);
        let damage: [(&str, Harm); 16] = [
            ("values swapped", |place| {
                let (one, other) = (home(place, "by-commit"), home(place, "user%3a%c3%a9"));
                let bytes = fs::read(&one).unwrap();
                fs::rename(&other, &one).unwrap();
                fs::write(&other, bytes).unwrap();
            }),
            ("value in another component", |place| {
                let other = place.path().join("components/app/notes/work");
                fs::create_dir_all(&other).unwrap();
                fs::copy(home(place, "by-commit"), other.join("by-commit")).unwrap();
            }),
            ("a component's folder under another name", |place| {
                let parent = place.path().join("components/app/counter");
                fs::rename(parent.join("001"), parent.join("002")).unwrap();
            }),
            ("file renamed to what is no name", |place| {
                fs::rename(home(place, "user%3a%c3%a9"), home(place, "user:\u{e9}")).unwrap();
            }),
            ("folder renamed to what is no name", |place| {
                let components = place.path().join("components");
                fs::rename(components.join("app"), components.join("App")).unwrap();
            }),
            ("an empty file", |place| fs::write(home(place, "by-commit"), "").unwrap()),
            ("a long key's file", |place| {
                let long = files_below(&home(place, ""));
                let file = long.keys().find(|path| path.to_string_lossy().contains("%%")).unwrap();
                fs::write(file, "damaged").unwrap();
            }),
            ("files of others", |place| {
                fs::write(home(place, ".DS_Store"), "x").unwrap();
                fs::write(home(place, ".tmp-mine"), "x").unwrap();
                fs::create_dir(home(place, "backup")).unwrap();
                fs::write(place.path().join("README"), "x").unwrap();
                fs::write(place.path().join("components/README"), "x").unwrap();
                fs::write(place.path().join("journal/README"), "x").unwrap();
            }),
            ("a key that cannot be", |place| {
                let record = record_of("app/notes/home/a\nb", "x", 1, &[]);
                fs::write(home(place, "a%0ab"), record).unwrap();
            }),
            ("folders missing", |place| {
                fs::remove_dir(place.path().join("journal")).unwrap();
                fs::remove_dir_all(place.path().join("loose")).unwrap();
            }),
            ("FORMAT", |place| fs::write(place.path().join("FORMAT"), "x").unwrap()),
            ("the counter gone", |place| fs::remove_file(place.path().join("revisions")).unwrap()),
            ("the counter behind", |place| {
                let record = record_of("app/notes/home/ahead", "x", u64::MAX / 2, &[]);
                fs::write(home(place, "ahead"), record).unwrap();
            }),
            ("the journal", |place| {
                fixture::copy_to(place);
                let file = files_below(&place.path().join("journal")).into_keys().next().unwrap();
                fs::write(file, "damaged").unwrap();
            }),
            ("a value of an unfinished commit", |place| {
                fixture::copy_to(place);
                let files = files_below(&home(place, ""));
                let temp = files.keys().find(|path| path.to_string_lossy().contains(".tmp-"));
                fs::write(temp.unwrap(), "damaged").unwrap();
            }),
            ("the store's own count", |place| {
                let record = record_of("app/notes/home/field", "x", 1, &[5, 1, 0, 99]);
                fs::write(home(place, "field"), record).unwrap();
            }),
        ];
        let mut all = String::new();
        for (name, harm) in damage {
            let place = settled();
            harm(&place);
            all += &format!("{name}\n{}\n\n", shown(&place));
        }
        insta::assert_snapshot!(all);
    }

    /// A record as docs/formats.md describes it.
    fn record_of(key: &str, value: &str, revision: u64, more_fields: &[u8]) -> Vec<u8> {
        let mut fields = vec![1];
        fields.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
        fields.extend_from_slice(key.as_bytes());
        fields.extend_from_slice(more_fields);
        let mut bytes = vec![1, 0];
        bytes.extend_from_slice(&revision.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(fields.len()).unwrap().to_le_bytes());
        bytes.extend(fields);
        bytes.extend_from_slice(value.as_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[cfg(unix)]
    #[test]
    fn links_and_names_that_are_no_text_are_told() {
        use std::os::unix::ffi::OsStrExt;
        let place = settled();
        std::os::unix::fs::symlink(home(&place, "by-commit"), home(&place, "link")).unwrap();
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe");
        fs::write(home(&place, "").join(name), "x").unwrap();
        let shown = shown(&place);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("home/link: is neither a file nor a folder"), "{shown}");
        assert!(shown.contains("is no file of the store"), "{shown}");
    }

    #[test]
    fn what_is_no_store_is_an_error() {
        let place = Place::new();
        let verify = || FileStorage::verify(place.path(), &mut |problem| panic!("{problem}"));
        assert!(matches!(verify(), Err(StorageError::IoError(_))));
        fs::create_dir(place.path()).unwrap();
        assert!(matches!(verify(), Err(StorageError::IoError(_))));
        let newer = "airssys file store\nformat: 2\nstore-id: 00\n";
        fs::write(place.path().join("FORMAT"), newer).unwrap();
        assert!(matches!(verify(), Err(StorageError::Unsupported(_))));
    }

    #[test]
    fn beside_a_running_writer_nothing_is_wrong() {
        let place = Place::new();
        let options = FileOptions::default().with_durability(Durability::Os);
        let storage = FileStorage::open(place.path(), options).unwrap();
        let done = AtomicBool::new(false);
        let (mut problems, mut verified) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            for thread in 0..3_usize {
                let (storage, done) = (&storage, &done);
                scope.spawn(move || {
                    for number in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                        let key = |n: usize| {
                            format!("app/{thread}/c{}/{}", n % 3, "k".repeat(n % 260 + 1))
                        };
                        storage.set(&key(number), number.to_string().as_str().into()).unwrap();
                        storage.delete(&key(number / 2)).unwrap();
                        let commit = Commit::new()
                            .set(key(number + 1), "x".into())
                            .set(format!("loose-{thread}"), "x".into())
                            .delete(key(number + 2));
                        storage.commit(commit).unwrap();
                    }
                });
            }
            for _ in 0..150 {
                verified.push(FileStorage::verify(place.path(), &mut |one| problems.push(one)));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(problems, []);
        assert!(verified.iter().all(Result::is_ok), "{verified:?}");
        drop(storage);
        assert_counted(&place);
    }
}

mod fixture {
    //! The first version of the format, as a store on disk: three components, a
    //! loose key, and a commit that was interrupted.
    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/file-format-1")
    }

    pub(super) fn copy_to(place: &Place) {
        for (path, bytes) in files_below(&folder()) {
            let target = place.path().join(path.strip_prefix(folder()).unwrap());
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, bytes).unwrap();
        }
    }

    pub(super) fn contents(storage: &FileStorage) -> Vec<(String, StorageValue)> {
        let keys = storage.list_keys(None).unwrap();
        keys.into_iter()
            .map(|key| {
                let value = storage.get(&key).unwrap().unwrap();
                (key, value)
            })
            .collect()
    }

    pub(super) fn expected() -> Vec<(String, StorageValue)> {
        let long = format!("app/notes/home/{}", "long/".repeat(100));
        [
            ("App/Notes/con/UPPER", "case"),
            ("app/counter/001/runs", "3"),
            ("app/notes/home/by-commit", "new"),
            (&*long, "long key"),
            ("app/notes/home/user:\u{e9}", "accent"),
            ("loose-key", ""),
        ]
        .map(|(key, value)| (key.to_owned(), value.into()))
        .into()
    }

    #[test]
    fn the_first_format_is_read() {
        let place = Place::new();
        copy_to(&place);
        assert_eq!(contents(&read_only(&place.path())), expected());
        let writer = open(&place.path());
        assert_eq!(contents(&writer), expected());
        assert_eq!(writer.store_id(), "6b6c6170982517b157088be1f96b5d0d");
        // The commit is finished, and its revision is older than a new one.
        assert!(files_below(&place.path().join("journal")).is_empty());
        let committed = writer.get_versioned("app/notes/home/by-commit").unwrap().unwrap();
        assert!(writer.put("app/notes/home/later", "x".into()).unwrap() > committed.revision);
    }
}

#[test]
fn a_journal_that_comes_back_after_a_power_cut_changes_nothing() {
    let place = Place::new();
    fixture::copy_to(&place);
    let journal = files_below(&place.path().join("journal"));
    let storage = open(&place.path());
    assert!(files_below(&place.path().join("journal")).is_empty());
    // Written after the commit that set the one and deleted the other.
    storage.set("app/notes/home/by-commit", "newer".into()).unwrap();
    storage.set("app/notes/home/to-delete", "newer".into()).unwrap();
    drop(storage);
    for (path, bytes) in journal {
        fs::write(path, bytes).unwrap();
    }
    for storage in [read_only(&place.path()), open(&place.path())] {
        for key in ["app/notes/home/by-commit", "app/notes/home/to-delete"] {
            assert_eq!(storage.get(key), Ok(Some("newer".into())), "{key}");
        }
    }
}

mod isolation {
    use super::*;
    use proptest::prelude::*;

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z0-9._:@+-]{1,12}",
            Just("con".to_owned()),
            Just("CON".to_owned()),
            Just("x".repeat(128)),
            Just("X".repeat(128)),
        ]
        .prop_filter("dots alone are no segment", |text| text != "." && text != "..")
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof![
            r"[a-zA-Z/.%*~ \\:]{1,12}",
            "[^\\p{Cc}]{1,40}",
            (1usize..=1024).prop_map(|len| "k".repeat(len)),
            Just("..".to_owned()),
            Just("../../../etc/passwd".to_owned()),
            Just("nul.txt".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Every pair of component and key has a file of its own, inside the
        /// store, and comes back byte for byte.
        #[test]
        fn no_two_keys_share_a_file(
            entries in proptest::collection::btree_map(
                (segment(), segment(), segment(), key()), any::<u32>(), 1..12
            )
        ) {
            let place = Place::new();
            let options = FileOptions::default().with_durability(Durability::Os);
            let storage = FileStorage::open(place.path(), options).unwrap();
            let view = |(namespace, name, instance, _): &(String, String, String, String)| {
                NamespacedStorage::new(
                    ComponentId::new(namespace, name, instance).unwrap(), &storage)
            };
            for (id, value) in &entries {
                view(id).set(&id.3, value.to_string().as_str().into()).unwrap();
            }
            for (id, value) in &entries {
                let found = view(id).get(&id.3).unwrap();
                prop_assert_eq!(found, Some(value.to_string().as_str().into()));
                let own: Vec<_> = entries.keys()
                    .filter(|other| (&other.0, &other.1, &other.2) == (&id.0, &id.1, &id.2))
                    .map(|other| other.3.clone())
                    .collect();
                prop_assert_eq!(view(id).list_keys(None).unwrap(), own);
            }
            let files = files_below(&place.path().join("components"));
            prop_assert_eq!(files.len(), entries.len());
            for path in files_below(place.0.path()).keys() {
                prop_assert!(path.starts_with(place.path()), "{:?}", path);
            }
            // Nor would they share one where case does not count.
            let folded: std::collections::BTreeSet<_> =
                files.keys().map(|path| path.to_string_lossy().to_lowercase()).collect();
            prop_assert_eq!(folded.len(), entries.len());
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_without_fsync_either() {
    let place = Place::new();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options.clone()).unwrap();
    let first = storage.put("a/b/c/1", "x".into()).unwrap();
    storage.commit(Commit::new().set("a/b/c/2", "y".into()).set("d/e/f/3", "z".into())).unwrap();
    storage.flush().unwrap();
    storage.delete("a/b/c/1").unwrap();
    storage.flush().unwrap();
    drop(storage);
    let storage = FileStorage::open(place.path(), options).unwrap();
    assert_eq!(storage.list_keys(None).unwrap(), ["a/b/c/2", "d/e/f/3"]);
    assert!(storage.put("a/b/c/1", "x".into()).unwrap() > first);
}

#[cfg(unix)]
#[test]
fn a_new_store_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    open(&place.path().join("below"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path().join("below")), 0o700);
    // A folder that was there keeps what its owner gave it.
    let given = place.path().join("given");
    fs::create_dir(&given).unwrap();
    fs::set_permissions(&given, fs::Permissions::from_mode(0o750)).unwrap();
    open(&given);
    assert_eq!(mode(&given), 0o750);
}

#[test]
fn more_components_than_are_remembered_are_kept_apart() {
    let place = Place::new();
    let options =
        FileOptions::default().with_durability(Durability::Os).with_index_budget_bytes(10_000);
    let storage = FileStorage::open(place.path(), options).unwrap();
    let budget = Budget { max_bytes: 1000, max_keys: 2 };
    let prefix = |number: usize| format!("app/many/{number}/");
    for round in 0..2 {
        for number in 0..5000 {
            let key = format!("{}{round}", prefix(number));
            storage.commit(Commit::new().set(key, "x".into()).with_budget(budget)).unwrap();
        }
    }
    for number in (0..5000).step_by(97) {
        let third = Commit::new().set(format!("{}2", prefix(number)), "x".into());
        let refused = storage.commit(third.with_budget(budget));
        assert_eq!(refused, Err(StorageError::QuotaExceeded));
        let keys = [0, 1].map(|round| format!("{}{round}", prefix(number)));
        assert_eq!(storage.list_keys(Some(&prefix(number))).unwrap(), keys);
    }
    assert_eq!(storage.list_partitions(None, 10_000).unwrap().keys.len(), 5000);
}

#[test]
fn indexes_that_do_not_fit_their_budget_are_built_anew() {
    let place = Place::new();
    let options =
        FileOptions::default().with_durability(Durability::Os).with_index_budget_bytes(200);
    let storage = FileStorage::open(place.path(), options).unwrap();
    for component in 0..5 {
        for key in 0..10 {
            storage.set(&format!("app/notes/{component}/{key}"), "".into()).unwrap();
        }
    }
    for round in 0..3 {
        for component in 0..5 {
            let prefix = format!("app/notes/{component}/");
            let page = storage.list_page(PageRequest::new(100).with_prefix(&prefix)).unwrap();
            assert_eq!(page.keys.len(), 10 + round);
            storage.set(&format!("{prefix}new-{round}"), "".into()).unwrap();
        }
    }
}

#[test]
fn files_of_others_in_the_folders_are_no_keys() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("app/notes/home/a", "".into()).unwrap();
    let folder = place.path().join("components/app/notes/home");
    for name in ["README.md", ".DS_Store", "Upper", "with space", "x%%y"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    fs::create_dir(folder.join("backup")).unwrap();
    let in_journal = [place.path().join("journal/notes.txt"), place.path().join("journal/old")];
    fs::write(&in_journal[0], "x").unwrap();
    fs::create_dir(&in_journal[1]).unwrap();
    fs::create_dir_all(place.path().join("components/lost+found")).unwrap();
    fs::write(place.path().join("components/notes.txt"), "x").unwrap();
    assert_eq!(storage.list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert_eq!(storage.list_partitions(None, 9).unwrap().keys, ["app/notes/home/"]);
    assert_eq!(read_only(&place.path()).usage(None).unwrap().keys, 1);
    drop(storage);
    assert_eq!(open(&place.path()).list_keys(None).unwrap(), ["app/notes/home/a"]);
    assert!(in_journal.iter().all(|path| path.exists()));
}

#[test]
fn a_store_without_its_counter_goes_on_beyond_what_it_holds() {
    let place = Place::new();
    let storage = open(&place.path());
    let mut last = storage.put("app/notes/home/a", "x".into()).unwrap();
    for _ in 0..10 {
        last = storage.put("loose", "x".into()).unwrap();
    }
    drop(storage);
    fs::remove_file(place.path().join("revisions")).unwrap();
    let storage = open(&place.path());
    assert!(storage.put("app/notes/home/a", "y".into()).unwrap() > last);
    assert_eq!(storage.get("loose"), Ok(Some("x".into())));
}

#[cfg(unix)]
#[test]
fn a_store_behind_a_link_or_missing_folders_is_made_there() {
    let place = Place::new();
    let deep = place.path().join("a/b/c");
    open(&deep).set("k", "v".into()).unwrap();
    let link = place.path().join("link");
    std::os::unix::fs::symlink(&deep, &link).unwrap();
    assert_eq!(open(&link).get("k"), Ok(Some("v".into())));
}

#[test]
fn writers_of_one_component_and_listings_agree() {
    let place = Place::new();
    let options = FileOptions::default().with_durability(Durability::Os);
    let storage = FileStorage::open(place.path(), options).unwrap();
    let budget = Budget { max_bytes: 1_000_000, max_keys: 200 };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for number in 0..50 {
                    let key = format!("app/notes/home/{thread}-{number:02}");
                    storage
                        .commit(Commit::new().set(&key, "x".into()).with_budget(budget))
                        .unwrap();
                    let listed = storage.list_keys(Some(&key)).unwrap();
                    assert_eq!(listed, [key]);
                }
            });
        }
    });
    let over = Commit::new().set("app/notes/home/one-more", "x".into()).with_budget(budget);
    assert_eq!(storage.commit(over), Err(StorageError::QuotaExceeded));
    assert_eq!(storage.list_keys(None).unwrap().len(), 200);
}
