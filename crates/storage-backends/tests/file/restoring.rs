//! A store after an incomplete restore, an incomplete copy or a kill.
use super::*;

/// Fills a store and returns its last revision.
fn filled(place: &Place) -> storage_core::Revision {
    let storage = open(&place.path());
    storage.set("a/b/c/k", "v".into()).unwrap();
    let commit = Commit::new().set("d/e/f/1", "v".into()).set("d/e/f/2", "v".into());
    storage.commit(commit).unwrap();
    storage_core::put(&storage, "loose", "v".into()).unwrap()
}

/// The errors of opening the store in each way. It must not change.
#[track_caller]
fn refusals(place: &Place) -> String {
    let before = place.tree();
    let mut messages = Vec::new();
    for result in [
        FileStorage::open(place.path(), FileOptions::default()),
        FileStorage::open_read_only(place.path(), FileOptions::default()),
    ] {
        messages.push(result.unwrap_err().to_string());
    }
    assert_eq!(place.tree(), before);
    messages.dedup();
    messages.join("\n").replace(&*place.path().to_string_lossy(), "STORE")
}

#[test]
fn records_without_format_are_refused_with_a_repair() {
    let place = Place::new();
    filled(&place);
    fs::remove_file(place.path().join("FORMAT")).unwrap();
    insta::assert_snapshot!(refusals(&place), @"the store is corrupt: STORE/FORMAT is missing, but there are files where a store keeps its data, such as STORE/loose/loose; restore FORMAT from a backup of this store, or create an empty store elsewhere and move its FORMAT here");
}

#[rstest]
#[case::components(&["components"])]
#[case::loose(&["loose"])]
#[case::records_alone(&["components", "loose"])]
#[case::with_a_counter(&["loose", "revisions"])]
fn a_part_of_a_store_is_refused(#[case] kept: &[&str]) {
    let place = Place::new();
    filled(&place);
    for entry in fs::read_dir(place.path()).unwrap() {
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
    let message = refusals(&place);
    assert!(message.contains("STORE/FORMAT is missing"), "{message}");
}

#[test]
fn a_pending_commit_without_format_is_refused() {
    let place = Place::new();
    fixture::copy_to(&place);
    for path in ["FORMAT", "revisions"] {
        fs::remove_file(place.path().join(path)).unwrap();
    }
    for path in ["components", "loose"] {
        fs::remove_dir_all(place.path().join(path)).unwrap();
    }
    let message = refusals(&place);
    assert!(message.contains("STORE/FORMAT is missing"), "{message}");
}

#[test]
fn verify_reads_records_without_format() {
    let place = Place::new();
    filled(&place);
    fs::remove_file(place.path().join("FORMAT")).unwrap();
    let mut problems = Vec::new();
    let verified = FileStorage::verify(place.path(), &mut |problem| problems.push(problem));
    let verified = verified.unwrap();
    assert_eq!((verified.usage.keys, verified.problems), (4, 1), "{problems:?}");
    assert!(problems[0].detail.starts_with("is missing; restore FORMAT"), "{}", problems[0]);
}

/// The repair without a backup, with and without the revision counter.
#[rstest]
fn revisions_continue_with_the_format_of_an_empty_store(#[values(true, false)] with_counter: bool) {
    let place = Place::new();
    let last = filled(&place);
    fs::remove_file(place.path().join("FORMAT")).unwrap();
    if !with_counter {
        fs::remove_file(place.path().join("revisions")).unwrap();
    }
    let empty = Place::new();
    let id = open(&empty.path()).store_id().to_owned();
    fs::rename(empty.path().join("FORMAT"), place.path().join("FORMAT")).unwrap();

    let storage = open(&place.path());
    assert_eq!(storage.store_id(), id);
    assert_eq!(storage.list_keys(None).unwrap(), ["a/b/c/k", "d/e/f/1", "d/e/f/2", "loose"]);
    assert!(storage_core::put(&storage, "new", "v".into()).unwrap() > last);
    drop(storage);
    let verified = FileStorage::verify(place.path(), &mut |problem| panic!("{problem}"));
    assert_eq!(verified.unwrap().usage.keys, 5);
}

#[test]
fn a_store_without_records_is_completed_and_keeps_its_counter() {
    let place = Place::new();
    let storage = open(&place.path());
    let last = storage_core::put(&storage, "a/b/c/k", "v".into()).unwrap();
    storage.delete("a/b/c/k").unwrap();
    drop(storage);
    // Without records it looks like an incomplete creation.
    fs::remove_file(place.path().join("FORMAT")).unwrap();
    let storage = open(&place.path());
    assert!(storage_core::put(&storage, "a/b/c/k", "v".into()).unwrap() > last);
    drop(storage);

    let begun = Place::new();
    for directory in ["components", "loose", "journal"] {
        fs::create_dir_all(begun.path().join(directory)).unwrap();
    }
    // A part of a counter, and a FORMAT that is not renamed yet.
    fs::write(begun.path().join("revisions"), [0; 100]).unwrap();
    fs::write(begun.path().join(".tmp-FORMAT"), "airssys").unwrap();
    open(&begun.path()).set("a/b/c/k", "v".into()).unwrap();
    assert_eq!(read_only(&begun.path()).get("a/b/c/k"), Ok(Some("v".into())));
}

#[test]
fn a_writer_creates_missing_directories() {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set("a/b/c/k", "v".into()).unwrap();
    drop(storage);
    // Git and object storage do not keep empty directories.
    for directory in ["journal", "loose"] {
        fs::remove_dir(place.path().join(directory)).unwrap();
    }
    let before = place.tree();
    let reader = read_only(&place.path());
    assert_eq!(reader.list_keys(None).unwrap(), ["a/b/c/k"]);
    assert_eq!(reader.get("missing"), Ok(None));
    let verified = FileStorage::verify(place.path(), &mut |problem| panic!("{problem}"));
    assert_eq!(verified.unwrap().usage.keys, 1);
    assert_eq!(place.tree(), before);
    assert!(!place.path().join("journal").exists(), "a reader creates nothing");

    for durability in [Durability::Sync, Durability::Os] {
        let _ = fs::remove_dir(place.path().join("journal"));
        let options = FileOptions::default().with_durability(durability);
        let storage = FileStorage::open(place.path(), options).unwrap();
        let commit = Commit::new().set("a/b/c/1", "v".into()).set("a/b/c/2", "v".into());
        storage.commit(commit).unwrap();
        storage.commit(Commit::new().delete("a/b/c/1").delete("a/b/c/2")).unwrap();
    }
}

#[test]
fn foreign_files_in_the_journal_are_ignored() {
    let place = Place::new();
    filled(&place);
    // macOS creates such files, and people use such names.
    let names = ["._0000000000000008.commit", "notes.commit", "notes.tmp", ".nfs0000.tmp"];
    for name in names {
        fs::write(place.path().join("journal").join(name), "x").unwrap();
    }
    assert_eq!(read_only(&place.path()).list_keys(None).unwrap().len(), 4);
    let storage = open(&place.path());
    assert_eq!(storage.list_keys(None).unwrap().len(), 4);
    assert!(names.iter().all(|name| place.path().join("journal").join(name).exists()));
}
