//! Archives: any bytes are refused or imported as a whole, and any change is refused.

use std::collections::BTreeMap;

use storage_backends::MemoryStorage;
use storage_core::{ComponentStorage, Store, validate_full_key};
use storage_host::{CopyOptions, ImportError, export_store, import_archive};

use crate::input::valid_start;

type Contents = BTreeMap<String, Vec<u8>>;

/// Input: an archive, or lines of keys and values.
pub(crate) fn run(input: &[u8]) {
    if let Ok(imported) = import(input) {
        assert_eq!(import(&export(&imported)).unwrap(), imported);
    }
    let text = valid_start(input);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.filter(|(key, _)| validate_full_key(key).is_ok());
    let contents: Contents =
        pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
    let archive = export(&contents);
    assert_eq!(import(&archive).unwrap(), contents);

    let at = input.iter().fold(0, |at: usize, byte| at.wrapping_mul(31) ^ usize::from(*byte));
    let mut changed = archive.clone();
    changed[at % archive.len()] ^= 1 << (at % 7);
    for archive in [&changed[..], &archive[..at % archive.len()]] {
        assert!(matches!(import(archive), Err(ImportError::Refused { .. })));
    }
}

fn export(contents: &Contents) -> Vec<u8> {
    let store = MemoryStorage::new();
    for (key, value) in contents {
        store.set(key, value.clone().into()).unwrap();
    }
    let mut archive = Vec::new();
    export_store(&store, None, &mut archive, &mut |_, _| {}).unwrap();
    archive
}

fn import(mut archive: &[u8]) -> Result<Contents, ImportError> {
    let store = MemoryStorage::new();
    import_archive(&mut archive, &store, &CopyOptions::new(), &mut |_, _| {})?;
    let mut contents = Contents::new();
    let mut add = |key: &str, value: storage_core::StorageValue| {
        contents.insert(key.to_owned(), value.into_bytes());
        Ok(())
    };
    store.read_snapshot("", None, &mut add).unwrap();
    Ok(contents)
}
