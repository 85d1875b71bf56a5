//! Filled stores, and reads of stores whose files are damaged.

use std::collections::BTreeMap;

use storage_core::{Budget, Commit, StorageError, StorageValue, Store, Usage};

pub(crate) type Contents = BTreeMap<String, StorageValue>;

/// Marsaglia's xorshift: the same numbers in each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end
    }
}

/// Sets, overwrites and deletes 40 keys of three components, some with a budget.
pub(crate) fn fill(store: &impl Store, random: &mut Random, expected: &mut Contents) {
    for number in 0..40 {
        let key = format!("app/notes/{}/{}", random.below(3), random.below(30));
        let value: Vec<u8> = (0..random.below(600)).map(|_| random.below(256) as u8).collect();
        let value = StorageValue::from(value);
        let commit = match number % 8 {
            0 => Commit::new().delete(&*key),
            1 => Commit::new().set(&*key, value.clone()).with_budget(Budget::UNLIMITED),
            2 => Commit::new().set(&*key, value.clone()).set("unscoped", value.clone()),
            _ => Commit::new().set(&*key, value.clone()),
        };
        for write in &commit.writes {
            match &write.value {
                Some(value) => expected.insert(write.key.clone(), value.clone()),
                None => expected.remove(&write.key),
            };
        }
        store.commit(commit).unwrap();
    }
}

/// Whether a store returns everything. Panics on anything but the expected result and
/// `Corrupt`.
pub(crate) fn is_whole(store: &impl Store, expected: &Contents) -> bool {
    fn is_right<T: PartialEq + std::fmt::Debug>(
        what: &str,
        found: Result<T, StorageError>,
        right: &T,
    ) -> bool {
        match found {
            Ok(found) if found == *right => true,
            Err(StorageError::Corrupt { .. }) => false,
            other => panic!("{what}: {other:?}"),
        }
    }
    let mut whole = true;
    for component in 0..3 {
        for number in 0..30 {
            let key = format!("app/notes/{component}/{number}");
            let right = expected.get(&key).cloned();
            whole &= is_right(&key, store.exists(&key), &right.is_some());
            whole &= is_right(&key, store.get(&key), &right);
        }
        let prefix = format!("app/notes/{component}/");
        let of_component = || expected.iter().filter(|(key, _)| key.starts_with(&prefix));
        let keys: Vec<String> = of_component().map(|(key, _)| key.clone()).collect();
        whole &= is_right("list", store.list_keys(Some(&prefix)), &keys);
        let usage: Usage = of_component().map(|(key, value)| Usage::of(key, value.len())).sum();
        whole &= is_right("usage", store.usage(Some(&prefix)), &usage);
    }
    let names: Vec<&str> = expected.keys().map(String::as_str).collect();
    let values: Vec<_> = expected.values().cloned().map(Some).collect();
    whole &= is_right("get_many", store.get_many(&names), &values);
    let mut found = Contents::new();
    let read = store.read_snapshot("", None, &mut |key, value| {
        found.insert(key.to_owned(), value);
        Ok(())
    });
    whole & is_right("snapshot", read.map(|()| found), expected)
}
