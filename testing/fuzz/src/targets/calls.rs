//! Sequences of calls by several components on complete chains, compared with ordered maps.

mod model;
mod store;

use storage_core::{
    Budget, Commit, ComponentStorage, Expected, PageRequest, StorageError, StorageValue,
};
use storage_host::{Access, CacheConfig, ComponentSettings, Limits};

use crate::input::Choices;
use model::{Keys, Model};
use store::{COMPONENTS, Engine, Store};

/// Enough calls to reach every state, and few enough to be fast.
const MAX_CALLS: usize = 100;

const MAX_VALUE_BYTES: usize = 2_048;
const MAX_BATCH: usize = 8;

/// Keys with common prefixes and similar file names.
const KEYS: [&str; 18] = [
    "a", "A", "a/", "a/b", "a/b/c/d", "a/c", "aa", "b", "con", "..", ".tmp-1", "%", "%61",
    "\u{e9}", "e\u{301}", "z", "LONG", "LONGER",
];

/// Prefixes and cursors of listings, in addition to the keys.
const TEXTS: [&str; 6] = ["", "a/b/", "c", "~", "\u{10ffff}", "app/notes/001/"];

const INVALID_KEYS: [&str; 4] = ["", "a\0", "\u{85}", "TOO LONG"];

/// Replaces the words in capitals by long texts.
fn expanded(key: &str) -> String {
    match key {
        "LONG" => "l".repeat(241),
        "LONGER" => "L/".repeat(512),
        "TOO LONG" => "l".repeat(1_025),
        other => other.to_owned(),
    }
}

/// In memory.
pub(crate) fn run(input: &[u8]) {
    calls(Engine::Memory, Choices::new(input));
}

/// In files, which is ten times slower.
pub(crate) fn run_file(input: &[u8]) {
    calls(Engine::File, Choices::new(input));
}

/// In redb, which is slower still.
pub(crate) fn run_redb(input: &[u8]) {
    calls(Engine::Redb, Choices::new(input));
}

fn calls(engine: Engine, mut choices: Choices<'_>) {
    let mut world = World::new(engine, &mut choices);
    let mut calls = 0;
    while !choices.is_empty() && calls < MAX_CALLS {
        world.call(&mut choices);
        calls += 1;
    }
    world.check_all();
    world.empty(0);
    world.store.end();
}

struct World {
    store: Store,
    model: Model,
}

impl World {
    fn new(engine: Engine, choices: &mut Choices<'_>) -> Self {
        let quota = choices.pick(&[
            None,
            Some(Budget { max_bytes: 60, max_keys: 4 }),
            Some(Budget { max_bytes: 3_000, max_keys: u64::MAX }),
            Some(Budget { max_bytes: u64::MAX, max_keys: 8 }),
        ]);
        let cache =
            |max_entries, max_size_bytes| CacheConfig { max_entries, max_size_bytes, ttl: None };
        let caches = [cache(0, 0), cache(2, 4 << 10), cache(8, 16 << 10), cache(1_000, 1 << 20)];
        let cache = caches[choices.below(caches.len())].clone();
        let shares_cache = choices.once_in(3);
        let mut limits = Limits::default();
        limits.value_bytes = MAX_VALUE_BYTES;
        limits.batch_operations = MAX_BATCH;
        let settings =
            ComponentSettings { quota, limits, cache: None, ..ComponentSettings::default() };
        let small_index = choices.once_in(2);
        Self {
            store: Store::new(engine, settings, cache, shares_cache, small_index),
            model: Model::new(quota),
        }
    }

    /// Makes a call and checks the result.
    fn call(&mut self, choices: &mut Choices<'_>) {
        let of = choices.below(COMPONENTS.len());
        match choices.below(20) {
            0..3 => self.set(of, choices),
            3 => self.put(of, choices),
            4 => self.delete(of, choices),
            5 => self.get(of, choices),
            6 => self.try_get(of, choices),
            7 => self.get_many(of, choices),
            8 => self.page(of, choices),
            9 => self.usage(of, choices),
            10..14 => self.commit(of, choices),
            14 => self.create_or_update(of, choices),
            15 => self.snapshot(of, choices),
            16 => self.granted(choices),
            17 => self.components(choices),
            18 => self.reopen(choices),
            _ => self.check(of),
        }
    }

    fn set(&mut self, of: usize, choices: &mut Choices<'_>) {
        let (key, value) = (any_key(choices), value(choices));
        let expected = self.model.write(of, &Commit::new().set(&key, value.clone()));
        let result = self.store.chain(of).set(&key, value);
        self.wrote(of, &key, result, expected);
    }

    fn put(&mut self, of: usize, choices: &mut Choices<'_>) {
        let (key, value) = (any_key(choices), value(choices));
        let expected = self.model.write(of, &Commit::new().set(&key, value.clone()));
        let result = storage_core::put(&self.store.chain(of), &key, value);
        if let Ok(revision) = result {
            assert_eq!(self.model.settle(of, &key, revision), Ok(()), "put({key:?})");
        }
        same_error(result.map(drop), expected);
    }

    fn delete(&mut self, of: usize, choices: &mut Choices<'_>) {
        let key = any_key(choices);
        let expected = self.model.write(of, &Commit::new().delete(&key));
        same_error(self.store.chain(of).delete(&key), expected);
    }

    /// Checks a write that does not return its revision.
    fn wrote(
        &mut self,
        of: usize,
        key: &str,
        result: Result<(), StorageError>,
        expected: Result<(), StorageError>,
    ) {
        let written = result.is_ok();
        same_error(result, expected);
        if written {
            let revision = self.store.chain(of).get_versioned(key).unwrap().unwrap().revision;
            assert_eq!(self.model.settle(of, key, revision), Ok(()), "set({key:?})");
        }
    }

    fn get(&mut self, of: usize, choices: &mut Choices<'_>) {
        let key = any_key(choices);
        let chain = self.store.chain(of);
        if let Err(error) = model::check_key(&key) {
            same_error(chain.get(&key).map(drop), Err(error.clone()));
            same_error(chain.exists(&key).map(drop), Err(error.clone()));
            same_error(chain.get_versioned(&key).map(drop), Err(error));
            return;
        }
        let expected = self.model.value(of, &key);
        // Each leaves something different in the cache.
        match choices.below(4) {
            0 => {
                let revision = self.model.keys(of).get(&key).and_then(|(_, revision)| *revision);
                let found = chain.get_versioned(&key).unwrap();
                assert_eq!(found.as_ref().map(|found| &found.value), expected.as_ref(), "{key:?}");
                let found = found.map(|found| found.revision);
                assert!(revision.is_none() || found == revision, "{key:?}: {found:?}");
            }
            1 => assert_eq!(chain.exists(&key), Ok(expected.is_some()), "exists({key:?})"),
            _ => assert_eq!(chain.get(&key), Ok(expected), "get({key:?})"),
        }
    }

    fn try_get(&mut self, of: usize, choices: &mut Choices<'_>) {
        let key = any_key(choices);
        if let Some(cached) = self.store.chain(of).try_get("", &key) {
            assert_eq!(cached, self.model.value(of, &key), "try_get({key:?})");
        }
    }

    fn get_many(&mut self, of: usize, choices: &mut Choices<'_>) {
        let keys: Vec<String> = (0..choices.below(MAX_BATCH + 2)).map(|_| key(choices)).collect();
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = self.store.chain(of).get_many(&asked);
        if keys.len() > MAX_BATCH {
            assert!(matches!(found, Err(StorageError::LimitExceeded { .. })), "{found:?}");
            return;
        }
        let expected = keys.iter().map(|key| self.model.value(of, key)).collect();
        assert_eq!(found, Ok(expected), "get_many({keys:?})");
    }

    fn page(&mut self, of: usize, choices: &mut Choices<'_>) {
        let (prefix, after) = (text(choices), text(choices));
        let after = (!choices.once_in(3)).then_some(after.as_str());
        let request = PageRequest { prefix: &prefix, after, limit: choices.below(6) };
        let keys = self.model.keys(of);
        let wanted: Vec<&String> = keys.keys().filter(|key| request.wants(key)).collect();
        let page = self.store.chain(of).list_page(request).unwrap();
        assert!(page.keys.len() <= request.limit);
        let found: Vec<&String> = page.keys.iter().collect();
        let (front, rest) = wanted.split_at(page.keys.len().min(wanted.len()));
        assert_eq!(found, front, "{request:?}");
        assert_eq!(page.more, !rest.is_empty(), "{request:?}");
        assert!(request.limit == 0 || !page.more || !page.keys.is_empty(), "{request:?}");
        let listed = self.store.chain(of).list_keys(Some(&prefix));
        let all = keys.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
        assert_eq!(listed, Ok(all), "list_keys({prefix:?})");
        self.list_in_pages(of, &prefix, 1 + choices.below(3));
    }

    fn list_in_pages(&self, of: usize, prefix: &str, limit: usize) {
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(String::as_str);
            let request = PageRequest { prefix, after, limit };
            let page = self.store.chain(of).list_page(request).unwrap();
            assert!(!page.more || !page.keys.is_empty(), "{request:?}");
            found.extend(page.keys);
            assert!(found.len() <= self.model.keys(of).len(), "keys repeat: {found:?}");
            if !page.more {
                break;
            }
        }
        let keys = self.model.keys(of).keys().filter(|key| key.starts_with(prefix));
        assert!(keys.eq(&found), "{found:?}");
    }

    fn usage(&mut self, of: usize, choices: &mut Choices<'_>) {
        let prefix = text(choices);
        let chain = self.store.chain(of);
        let expected = self.model.usage(of, &prefix);
        assert_eq!(chain.usage(Some(&prefix)), Ok(expected), "usage({prefix:?})");
        let all = self.model.usage(of, "");
        let usage = chain.component_usage().unwrap();
        assert_eq!((usage.used_bytes, usage.key_count), (all.bytes, all.keys));
    }

    fn commit(&mut self, of: usize, choices: &mut Choices<'_>) {
        let commit = self.random_commit(of, choices);
        self.commit_and_check(of, &commit);
    }

    fn commit_and_check(&mut self, of: usize, commit: &Commit) {
        let expected = self.model.write(of, commit);
        let result = self.store.chain(of).commit(commit.clone());
        if let Ok(revision) = result {
            let settled = self.model.settle_commit(of, commit, revision);
            assert_eq!(settled, Ok(()), "{commit:?}");
        }
        let result = result.map(drop);
        assert_eq!(kind(&result), kind(&expected), "{commit:?}: {result:?}, not {expected:?}");
        same_error(result, expected);
    }

    fn create_or_update(&mut self, of: usize, choices: &mut Choices<'_>) {
        let (key, value) = (any_key(choices), value(choices));
        let commit = match choices.once_in(2) {
            true => Commit::new().require_absent(&key),
            false => Commit::new().require_present(&key),
        };
        self.commit_and_check(of, &commit.set(&key, value));
    }

    /// Up to three checks, most of which hold, up to six writes, and sometimes a budget close
    /// to the usage.
    fn random_commit(&self, of: usize, choices: &mut Choices<'_>) -> Commit {
        let mut commit = Commit::new();
        for _ in 0..choices.below(4) {
            let key = any_key(choices);
            let found = self.model.keys(of).get(&key).cloned();
            let expected = match (choices.below(6), found) {
                (0, Some((_, Some(revision)))) => Expected::Revision(revision),
                (5, Some((_, Some(revision)))) => {
                    Expected::Revision(storage_core::Revision::new(revision.get() - 1))
                }
                (1, Some((found, _))) => Expected::Value(found),
                (2, _) => Expected::Value(value(choices)),
                (3, None) | (4, Some(_)) => Expected::Present,
                _ => Expected::Absent,
            };
            commit.checks.push(storage_core::Check { key, expected });
        }
        for _ in 0..choices.below(7) {
            let key = any_key(choices);
            commit = match choices.once_in(3) {
                true => commit.delete(key),
                false => commit.set(key, value(choices)),
            };
        }
        if choices.once_in(3) {
            let mut keys: Keys = self.model.keys(of).clone();
            model::apply(&mut keys, &commit);
            let used = model::usage(&keys, "");
            let around = |choices: &mut Choices<'_>, used: u64| match choices.below(3) {
                0 => used,
                1 => used.saturating_sub(1),
                _ => used + 1,
            };
            commit = commit.with_budget(Budget {
                max_bytes: around(choices, used.bytes),
                max_keys: around(choices, used.keys),
            });
        }
        commit
    }

    fn snapshot(&mut self, of: usize, choices: &mut Choices<'_>) {
        let (prefix, after) = (text(choices), text(choices));
        let after = (!choices.once_in(3)).then_some(after.as_str());
        let mut found = Vec::new();
        let component = store::component_prefix(COMPONENTS[of]);
        let visit = &mut |key: &str, value: StorageValue| {
            found.push((key.strip_prefix(component).unwrap().to_owned(), value));
            Ok(())
        };
        let full = |text: &str| format!("{component}{text}");
        let after_key = after.map(full);
        self.store.backend().read_snapshot(&full(&prefix), after_key.as_deref(), visit).unwrap();
        let behind = |key: &str| after.is_none_or(|after| key > after);
        let wanted = |(key, _): &(&String, _)| key.starts_with(&prefix) && behind(key);
        let all = self.model.keys(of).iter().filter(wanted);
        let all: Vec<_> = all.map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        assert_eq!(found, all, "read_snapshot({prefix:?}, {after:?})");
    }

    /// The first component uses keys of the second.
    fn granted(&mut self, choices: &mut Choices<'_>) {
        let (key, access) = (key(choices), choices.pick(&[Access::Read, Access::ReadWrite]));
        let prefix = choices.pick(&["a", "a/b", ""]);
        let granted = self.store.granted(prefix, access);
        let within = key.starts_with(prefix);
        let expected = self.model.value(1, &key).filter(|_| within);
        assert_eq!(granted.get(&key), Ok(expected.clone()), "granted {prefix:?}: get({key:?})");
        assert_eq!(granted.get_many(&[&key, &key]), Ok(vec![expected.clone(), expected]));
        let keys = self.model.keys(1).keys().filter(|key| key.starts_with(prefix)).cloned();
        assert_eq!(granted.list_keys(None), Ok(keys.collect()));
        if !within || access == Access::Read {
            let denied = Err(StorageError::AccessDenied(key.clone()));
            assert_eq!(granted.set(&key, "".into()), denied);
            assert_eq!(granted.delete(&key), denied);
            return;
        }
        let value = value(choices);
        let expected = self.model.write(1, &Commit::new().set(&key, value.clone()));
        let result = granted.set(&key, value);
        drop(granted);
        self.wrote(1, &key, result, expected);
    }

    fn components(&mut self, choices: &mut Choices<'_>) {
        let all = self.model.components();
        let after = choices.pick(&["", "app/notes/001/", "app/notes/0011", "b"]);
        let page = self.store.backend().list_components(Some(after), choices.below(4)).unwrap();
        let wanted: Vec<&&str> = all.iter().filter(|name| **name > after).collect();
        let (front, rest) = wanted.split_at(page.keys.len().min(wanted.len()));
        assert!(page.keys.iter().eq(front.iter().copied()), "{:?}, not {wanted:?}", page.keys);
        assert_eq!(page.more, !rest.is_empty());
    }

    fn reopen(&mut self, choices: &mut Choices<'_>) {
        match choices.below(4) {
            0 => self.store.chain(choices.below(COMPONENTS.len())).clear_cache(),
            1 => self.store.backend().flush().unwrap(),
            2 => self.store.reopen(),
            _ => {
                let keys = self.model.full_keys();
                if let Some(listed) = self.store.keys_for_a_reader() {
                    assert_eq!(listed, keys);
                }
                assert_eq!(self.store.backend().list_keys(None), Ok(keys));
            }
        }
    }

    /// Checks everything in a component.
    fn check(&mut self, of: usize) {
        let chain = self.store.chain(of);
        for (key, (value, revision)) in self.model.keys(of) {
            assert_eq!(chain.get(key).as_ref(), Ok(&Some(value.clone())), "get({key:?})");
            let found = chain.get_versioned(key).unwrap().unwrap();
            assert_eq!(&found.value, value, "get_versioned({key:?})");
            assert!(revision.is_none() || *revision == Some(found.revision), "{key:?}");
        }
        let keys: Vec<String> = self.model.keys(of).keys().cloned().collect();
        assert_eq!(chain.list_keys(None), Ok(keys));
        for key in KEYS.map(expanded) {
            assert_eq!(chain.exists(&key), Ok(self.model.value(of, &key).is_some()), "{key:?}");
        }
        assert_eq!(chain.usage(None), Ok(self.model.usage(of, "")));
    }

    fn check_all(&mut self) {
        for of in 0..COMPONENTS.len() {
            self.check(of);
        }
        self.check_backend();
    }

    /// Checks the keys of all components, and the list of components.
    fn check_backend(&self) {
        let backend = self.store.backend();
        assert_eq!(backend.list_keys(None), Ok(self.model.full_keys()));
        let components = backend.list_components(None, COMPONENTS.len()).unwrap();
        assert_eq!(components.keys, self.model.components());
        let mut found: Vec<String> = Vec::new();
        loop {
            let after = found.last().map(String::as_str);
            let page = backend.list_components(after, 1).unwrap();
            found.extend(page.keys);
            if !page.more {
                break;
            }
            assert!(found.len() < COMPONENTS.len(), "components repeat: {found:?}");
        }
        assert_eq!(found, components.keys);
    }

    /// Deletes the keys of a component one by one.
    fn empty(&mut self, of: usize) {
        let keys: Vec<String> = self.model.keys(of).keys().cloned().collect();
        for key in keys {
            assert_eq!(self.model.write(of, &Commit::new().delete(&key)), Ok(()));
            assert_eq!(self.store.chain(of).delete(&key), Ok(()));
        }
        self.check(of);
        self.check_backend();
    }
}

fn key(choices: &mut Choices<'_>) -> String {
    expanded(choices.pick(&KEYS))
}

/// A key, sometimes an invalid one.
fn any_key(choices: &mut Choices<'_>) -> String {
    if choices.once_in(32) { expanded(choices.pick(&INVALID_KEYS)) } else { key(choices) }
}

fn text(choices: &mut Choices<'_>) -> String {
    if choices.once_in(2) { key(choices) } else { choices.pick(&TEXTS).to_owned() }
}

fn value(choices: &mut Choices<'_>) -> StorageValue {
    let len = match choices.below(16) {
        0..12 => choices.below(20),
        12..15 => choices.below(100),
        _ => MAX_VALUE_BYTES - 1 + choices.below(3),
    };
    StorageValue::new(vec![b'a' + choices.below(26) as u8; len])
}

/// Compares outcomes. Errors must contain the user key; other texts may differ.
fn same_error(result: Result<(), StorageError>, expected: Result<(), StorageError>) {
    match (&result, &expected) {
        (Err(StorageError::InvalidKey(_)), Err(StorageError::InvalidKey(_)))
        | (Err(StorageError::LimitExceeded { .. }), Err(StorageError::LimitExceeded { .. })) => {}
        _ => assert_eq!(result, expected),
    }
}

fn kind<T>(result: &Result<T, StorageError>) -> Option<std::mem::Discriminant<StorageError>> {
    result.as_ref().err().map(std::mem::discriminant)
}
