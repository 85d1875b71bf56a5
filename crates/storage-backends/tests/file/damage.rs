use super::*;

const KEY: &str = "app/notes/home/note-1";

fn assert_corrupt(dir: &StoreDir, key: &str) {
    for storage in [read_only(&dir.path()), open(&dir.path())] {
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
    let dir = StoreDir::new();
    open(&dir.path()).set(KEY, "buy milk".into()).unwrap();
    let file = dir.path().join("components/app/notes/home/note-1");
    let whole = fs::read(&file).unwrap();
    let reader = read_only(&dir.path());
    for at in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            fs::write(&file, bytes).unwrap();
            let found = reader.get(KEY);
            assert!(matches!(found, Err(StorageError::Corrupt { .. })), "{at}: {found:?}");
        }
    }
    assert_corrupt(&dir, KEY);
    fs::write(&file, whole).unwrap();
    assert_eq!(reader.get(KEY), Ok(Some("buy milk".into())));
}

#[test]
fn a_damaged_journal_is_detected_and_can_be_restored() {
    let dir = StoreDir::fixture("file-format-1");
    let journal = files_below(&dir.path().join("journal"));
    let (file, whole) = journal.into_iter().next().unwrap();
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        for bytes in [&*flipped, &whole[..at]] {
            fs::write(&file, bytes).unwrap();
            for opened in opened_both_ways(&dir.path()) {
                assert!(matches!(opened, Err(StorageError::Corrupt { key: None, .. })), "{at}");
            }
        }
    }
    fs::write(&file, whole).unwrap();
    assert_eq!(contents(&open(&dir.path())), support::first_format());
}

#[test]
fn a_long_key_with_a_damaged_value_is_listed() {
    let dir = StoreDir::new();
    let key = format!("app/notes/home/{}", "k".repeat(1000));
    open(&dir.path()).set(&key, "value".into()).unwrap();
    let (file, mut bytes) = files_below(&dir.path().join("components")).into_iter().next().unwrap();
    let last = bytes.len() - 6;
    bytes[last] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let reader = read_only(&dir.path());
    assert_eq!(reader.list_keys(None), Ok(vec![key.clone()]));
    assert_corrupt(&dir, &key);
    // With a damaged key there is no name to list.
    bytes[20] ^= 1;
    fs::write(&file, &bytes).unwrap();
    assert!(matches!(reader.list_keys(None), Err(StorageError::Corrupt { .. })));
}
