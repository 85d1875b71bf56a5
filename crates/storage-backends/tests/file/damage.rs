use super::*;

const KEY: &str = "app/notes/home/note-1";

fn assert_corrupt(place: &Place, key: &str) {
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
fn every_flipped_byte_of_a_value_is_detected() {
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
    assert_corrupt(&place, KEY);
    fs::write(&file, whole).unwrap();
    assert_eq!(reader.get(KEY), Ok(Some("buy milk".into())));
}

#[rstest]
#[case::of_the_same_component("app/notes/home/note-2")]
#[case::of_another_component("app/notes/work/note-1")]
fn the_file_of_another_key_is_corrupt(#[case] other: &str) {
    let place = Place::new();
    let storage = open(&place.path());
    storage.set(KEY, "mine".into()).unwrap();
    storage.set(other, "theirs".into()).unwrap();
    drop(storage);
    let components = place.path().join("components");
    fs::copy(components.join(other), components.join(KEY)).unwrap();
    assert_corrupt(&place, KEY);
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
fn a_damaged_journal_is_detected_and_can_be_restored() {
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
    assert_eq!(fixture::contents(&open(&place.path())), support::first_format());
}

#[test]
fn a_long_key_with_a_damaged_value_is_listed() {
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
    assert_corrupt(&place, &key);
    // With a damaged key there is no name to list.
    bytes[20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(reader.list_keys(None), Err(StorageError::Corrupt { .. })));
}
