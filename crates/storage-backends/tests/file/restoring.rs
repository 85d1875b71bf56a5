//! A store after an incomplete restore, an incomplete copy or a kill.
use super::*;

/// Fills a store and returns its last revision.
fn filled(dir: &StoreDir) -> storage_core::Revision {
    let storage = open(&dir.path());
    storage.set("a/b/c/k", "v".into()).unwrap();
    let commit = Commit::new().set("d/e/f/1", "v".into()).set("d/e/f/2", "v".into());
    storage.commit(commit).unwrap();
    storage_core::put(&storage, "loose", "v".into()).unwrap()
}

/// The errors of opening the store in each way. It must not change.
#[track_caller]
fn refusals(dir: &StoreDir) -> String {
    let before = dir.tree();
    let [writer, reader] = opened_both_ways(&dir.path()).map(|opened| opened.unwrap_err());
    assert_eq!((dir.tree(), writer.to_string()), (before, reader.to_string()));
    writer.to_string().replace(&*dir.path().to_string_lossy(), "STORE")
}

#[test]
fn records_without_format_are_refused_with_a_repair() {
    let dir = StoreDir::new();
    filled(&dir);
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    insta::assert_snapshot!(refusals(&dir), @"the store is corrupt: STORE/FORMAT is missing, but there are files where a store keeps its data, such as STORE/loose/loose; restore FORMAT from a backup of this store, or create an empty store elsewhere and move its FORMAT here");
    let (verified, problems) = support::problems(|report| FileStorage::verify(dir.path(), report));
    assert_eq!((verified.usage.keys, verified.problems), (4, 1), "{problems:?}");
    assert!(problems[0].detail.starts_with("is missing; restore FORMAT"), "{}", problems[0]);
}

#[rstest]
#[case::components(&["components"])]
#[case::loose(&["loose"])]
#[case::records_alone(&["components", "loose"])]
#[case::with_a_counter(&["loose", "revisions"])]
#[case::a_pending_commit(&["journal", "LOCK"])]
fn a_part_of_a_store_is_refused(#[case] kept: &[&str]) {
    // With a pending commit.
    let dir = StoreDir::fixture("file-format-1");
    for entry in fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        if kept.contains(&&*entry.file_name().to_string_lossy()) {
            continue;
        }
        if entry.path().is_dir() {
            fs::remove_dir_all(entry.path()).unwrap();
        } else {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let message = refusals(&dir);
    assert!(message.contains("STORE/FORMAT is missing"), "{message}");
}

/// The repair without a backup, with and without the revision counter.
#[rstest]
fn revisions_continue_with_the_format_of_an_empty_store(#[values(true, false)] with_counter: bool) {
    let dir = StoreDir::new();
    let last = filled(&dir);
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    if !with_counter {
        fs::remove_file(dir.path().join("revisions")).unwrap();
    }
    let empty = StoreDir::new();
    let id = open(&empty.path()).store_id().to_owned();
    fs::rename(empty.path().join("FORMAT"), dir.path().join("FORMAT")).unwrap();

    let storage = open(&dir.path());
    assert_eq!(storage.store_id(), id);
    assert_eq!(storage.list_keys(None).unwrap(), ["a/b/c/k", "d/e/f/1", "d/e/f/2", "loose"]);
    assert!(storage_core::put(&storage, "new", "v".into()).unwrap() > last);
    drop(storage);
    let verified = FileStorage::verify(dir.path(), &mut |problem| panic!("{problem}"));
    assert_eq!(verified.unwrap().usage.keys, 5);
}

#[test]
fn a_store_without_records_is_completed_and_keeps_its_counter() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    let last = storage_core::put(&storage, "a/b/c/k", "v".into()).unwrap();
    storage.delete("a/b/c/k").unwrap();
    drop(storage);
    // Without records it looks like an incomplete creation.
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let storage = open(&dir.path());
    assert!(storage_core::put(&storage, "a/b/c/k", "v".into()).unwrap() > last);
}

#[test]
fn a_writer_creates_missing_directories() {
    let dir = StoreDir::new();
    let storage = open(&dir.path());
    storage.set("a/b/c/k", "v".into()).unwrap();
    drop(storage);
    // Git and object storage do not keep empty directories.
    for directory in ["journal", "loose"] {
        fs::remove_dir(dir.path().join(directory)).unwrap();
    }
    let before = dir.tree();
    let reader = read_only(&dir.path());
    assert_eq!(reader.list_keys(None).unwrap(), ["a/b/c/k"]);
    assert_eq!(reader.get("missing"), Ok(None));
    let verified = FileStorage::verify(dir.path(), &mut |problem| panic!("{problem}"));
    assert_eq!(verified.unwrap().usage.keys, 1);
    assert_eq!(dir.tree(), before);
    assert!(!dir.path().join("journal").exists(), "a reader creates nothing");

    for durability in [Durability::Sync, Durability::Os] {
        let _ = fs::remove_dir(dir.path().join("journal"));
        let options = FileOptions::default().with_durability(durability);
        let storage = FileStorage::open(dir.path(), options).unwrap();
        let commit = Commit::new().set("a/b/c/1", "v".into()).set("a/b/c/2", "v".into());
        storage.commit(commit).unwrap();
        storage.commit(Commit::new().delete("a/b/c/1").delete("a/b/c/2")).unwrap();
    }
}
