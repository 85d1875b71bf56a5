//! The first version of the format, as a store on disk.

use super::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rocksdb-format-1")
}

pub(super) fn copy_to(place: &Place) {
    copy_files(&directory(), &place.path());
}

#[test]
fn the_first_format_is_read() {
    let place = Place::new();
    copy_to(&place);
    let (verified, problems) = verify(&place.path());
    assert_eq!((verified.usage.keys, verified.components, problems), (6, 3, Vec::new()));
    assert_eq!(contents(&read_only(&place.path())), support::first_format());
    let writer = open(&place.path());
    assert_eq!(contents(&writer), support::first_format());
    assert_eq!(writer.store_id(), "53b40a4d772368865ebc8c11bc536c54");
    // It has a usage counter, and its last write is older than a new one.
    assert_eq!(writer.usage(Some("app/notes/home/")).unwrap().keys, 3);
    let committed = writer.get_versioned("app/notes/home/by-commit").unwrap().unwrap();
    assert_eq!(committed.revision.get(), 6);
    assert!(
        storage_core::put(&writer, "app/notes/home/later", "x".into()).unwrap()
            > committed.revision
    );
}

/// How it was made: `cargo test ... -- --ignored a_new_fixture`, which prints
/// where it is.
#[test]
#[ignore = "makes a new fixture"]
fn a_new_fixture() {
    let path = std::env::temp_dir().join("rocksdb-format-1");
    let _ = fs::remove_dir_all(&path);
    let storage = open(&path);
    for (key, value) in
        support::first_format().iter().filter(|(key, _)| !key.ends_with("by-commit"))
    {
        storage.set(key, value.clone()).unwrap();
    }
    let commit = set("app/notes/home/by-commit", "new").delete("app/notes/home/gone");
    storage.commit(commit.with_budget(storage_core::Budget::UNLIMITED)).unwrap();
    let id = storage.store_id().to_owned();
    drop(storage);
    for (path, _) in files_below(&path) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("LOG")
            || name.starts_with("OPTIONS")
            || name == "WRITER"
            || name == "LOCK"
        {
            fs::remove_file(path).unwrap();
        }
    }
    println!("store {id} in {}", path.display());
}
