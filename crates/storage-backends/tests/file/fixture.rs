//! A store in the first version of the format: three components, an unscoped key and a
//! pending commit.
use super::*;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/file-format-1")
}

pub(super) fn copy_to(place: &Place) {
    for (path, bytes) in files_below(&directory()) {
        let target = place.path().join(path.strip_prefix(directory()).unwrap());
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

#[test]
fn the_first_format_is_read() {
    let place = Place::new();
    copy_to(&place);
    assert_eq!(contents(&read_only(&place.path())), support::first_format());
    let writer = open(&place.path());
    assert_eq!(contents(&writer), support::first_format());
    assert_eq!(writer.store_id(), "6b6c6170982517b157088be1f96b5d0d");
    // The commit has been applied, with a revision older than a new one.
    assert!(files_below(&place.path().join("journal")).is_empty());
    let committed = writer.get_versioned("app/notes/home/by-commit").unwrap().unwrap();
    assert!(
        storage_core::put(&writer, "app/notes/home/later", "x".into()).unwrap()
            > committed.revision
    );
}
