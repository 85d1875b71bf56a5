//! Random operations, compared with an ordered map.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Feature, Subject, case};
use crate::conformance::random::Random;
use crate::conformance::subject::{
    Opened, expect, expect_page, expect_that, expect_value, succeed,
};
use crate::{
    Budget, Commit, PageRequest, Revision, StorageError, StorageValue, Usage, VersionedValue,
    split_full_key,
};

pub(super) const CASES: &[Case] = &[
    case!(random_operations_agree_with_an_ordered_map),
    case!(random_operations_agree_when_opened_again needs Persistence),
];

/// Keys with common prefixes and components.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "a", "a/b", "a/b/c", "a/b/c/", "a/b/c/k", "a/b/c/k1", "a/b/c/k/l", "a/b/c-/k", "a/b/cc/k",
    "a/b/cc/k1", "b", "m/n/o/\u{e9}", "m/n/o/e\u{301}", "m/n/o/", "m/n/o", "z",
];

/// Prefixes and cursors of listings, besides the keys.
const TEXTS: &[&str] = &["", "a/", "a/b/", "a/b/c/k", "a/b/d", "m/", "m/n/o/e", "n", "~"];

fn random_operations_agree_with_an_ordered_map(subject: &Subject<'_>) {
    for seed in 1..=4 {
        // In one storage, to find what an earlier run left behind.
        let store = subject.open();
        clear(&store);
        let mut model = Model::new(subject, seed);
        for step in 0..120 {
            model.step(&store, &format!("seed {seed}, step {step}"));
        }
        model.check_all(&store, &format!("seed {seed}, at the end"));
    }
}

fn random_operations_agree_when_opened_again(subject: &Subject<'_>) {
    let mut model = Model::new(subject, 5);
    for round in 0..8 {
        let store = subject.open();
        model.check_all(&store, &format!("opened {round} times"));
        for step in 0..25 {
            model.step(&store, &format!("opened {round} times, step {step}"));
        }
        if round % 2 == 0 {
            store.flush();
        }
    }
    model.check_all(&subject.open(), "at the end");
}

fn clear(store: &Opened) {
    for key in store.list_keys(None) {
        store.delete(&key);
    }
}

type Keys = BTreeMap<String, (StorageValue, Option<Revision>)>;

/// Applies the writes of a commit one after the other.
fn apply(keys: &mut Keys, commit: &Commit, revision: Option<Revision>) {
    for write in &commit.writes {
        match &write.value {
            Some(value) => keys.insert(write.key.clone(), (value.clone(), revision)),
            None => keys.remove(&write.key),
        };
    }
}

struct Model<'a> {
    subject: &'a Subject<'a>,
    random: Random,
    keys: Keys,
    /// The largest revision so far.
    last: Option<Revision>,
}

impl<'a> Model<'a> {
    fn new(subject: &'a Subject<'a>, seed: u64) -> Self {
        Self { subject, random: Random::new(seed), keys: Keys::new(), last: None }
    }

    fn key(&mut self) -> &'static str {
        self.random.pick(KEYS).copied().unwrap_or_default()
    }

    fn text(&mut self) -> &'static str {
        let from = if self.random.once_in(2) { KEYS } else { TEXTS };
        self.random.pick(from).copied().unwrap_or_default()
    }

    fn value(&mut self) -> StorageValue {
        let len = self.random.below(4) * self.random.below(30);
        StorageValue::new(vec![b'a' + (self.random.below(26) as u8); len])
    }

    /// The component that a budget covers, and the user key.
    fn split<'k>(&self, key: &'k str) -> (&'k str, &'k str) {
        if self.subject.has(Feature::Components) { split_full_key(key) } else { ("", key) }
    }

    /// One random operation. `at` names it in messages.
    fn step(&mut self, store: &Opened, at: &str) {
        match self.random.below(12) {
            0..=2 => self.set(store, at),
            3 => self.delete(store),
            4 | 5 if self.subject.has(Feature::Commits) => self.commit(store, at),
            6 => self.check_key(store, at),
            7 => self.check_page(store, at),
            8 => self.check_components(store, at),
            9 => self.check_usage(store, at),
            10 => self.check_many(store, at),
            11 if self.random.once_in(4) => self.check_all(store, at),
            _ => self.set(store, at),
        }
    }

    fn set(&mut self, store: &Opened, at: &str) {
        let (key, value) = (self.key(), self.value());
        let revision = if self.subject.has(Feature::Revisions) && self.random.once_in(2) {
            let revision = store.put(key, value.clone());
            self.expect_growth(revision, at);
            Some(revision)
        } else {
            store.set(key, value.clone());
            self.read_revision(store, key, at)
        };
        self.keys.insert(key.to_owned(), (value, revision));
    }

    /// The revision of a write that does not return it.
    fn read_revision(&mut self, store: &Opened, key: &str, at: &str) -> Option<Revision> {
        if !self.subject.has(Feature::Revisions) {
            return None;
        }
        let revision = store.get_versioned(key).map(|found| found.revision);
        expect_that(
            format_args!("{at}: get_versioned({key:?}) to find a value"),
            revision.is_some(),
        );
        self.expect_growth(revision?, at);
        revision
    }

    fn expect_growth(&mut self, revision: Revision, at: &str) {
        let last = self.last.replace(revision);
        let grows = last.is_none_or(|last| revision > last);
        expect_that(format_args!("{at}: revision {revision} to be larger than {last:?}"), grows);
    }

    fn delete(&mut self, store: &Opened) {
        let key = self.key();
        store.delete(key);
        self.keys.remove(key);
    }

    fn commit(&mut self, store: &Opened, at: &str) {
        let commit = self.random_commit();
        let expected = self.verify(&commit);
        let result = store.storage().commit(commit.clone());
        let what = format!("{at}: commit({commit:?})");
        match expected {
            Err(error) => expect(what, result, Err(error)),
            Ok(()) => {
                let revision = succeed(what, result);
                let revision = self.subject.has(Feature::Revisions).then_some(revision);
                if let Some(revision) = revision {
                    self.expect_growth(revision, at);
                }
                apply(&mut self.keys, &commit, revision);
            }
        }
    }

    /// A commit with up to three checks, most of which pass, up to four writes, and
    /// sometimes a budget close to the usage.
    fn random_commit(&mut self) -> Commit {
        let within = if self.random.once_in(3) { Some(self.key()) } else { None };
        let keys: Vec<&str> = match within {
            Some(of) => {
                let one = |key: &&&str| self.split(key).0 == self.split(of).0;
                KEYS.iter().filter(one).copied().collect()
            }
            None => KEYS.to_vec(),
        };
        let mut commit = Commit::new();
        for _ in 0..self.random.below(3) {
            let key = self.random.pick(&keys).copied().unwrap_or("a");
            commit = self.random_check(commit, key);
        }
        for _ in 0..self.random.below(5) {
            let key = self.random.pick(&keys).copied().unwrap_or("a");
            commit = match self.random.once_in(3) {
                true => commit.delete(key),
                false => commit.set(key, self.value()),
            };
        }
        if let (Some(of), true) = (within, self.subject.has(Feature::Budgets)) {
            // Just enough, just too little, or one of each.
            let used = self.used_after(&commit, self.split(of).0);
            let around = |random: &mut Random, used: u64| match random.below(4) {
                0 => used.saturating_sub(1),
                1 => used + 1,
                _ => used,
            };
            commit = commit.with_budget(Budget {
                max_bytes: around(&mut self.random, used.bytes),
                max_keys: around(&mut self.random, used.keys),
            });
        }
        commit
    }

    fn random_check(&mut self, commit: Commit, key: &str) -> Commit {
        let found = self.keys.get(key).cloned();
        let holds = !self.random.once_in(5);
        match (found, self.random.below(3)) {
            (Some((_, Some(revision))), 0) => {
                let other = Revision::new(revision.get().wrapping_sub(1));
                commit.require_revision(key, if holds { revision } else { other })
            }
            (Some((value, _)), 1) => {
                commit.require_value(key, if holds { value } else { self.value() })
            }
            (found, _) if found.is_some() == holds => commit.require_present(key),
            _ => commit.require_absent(key),
        }
    }

    fn used_after(&self, commit: &Commit, component: &str) -> Usage {
        let mut keys = self.keys.clone();
        apply(&mut keys, commit, None);
        self.usage_of(&keys, component)
    }

    fn usage_of(&self, keys: &Keys, component: &str) -> Usage {
        let own = keys.iter().map(|(key, (value, _))| (self.split(key), value.len()));
        own.filter(|((of, _), _)| *of == component).map(|((_, key), len)| Usage::of(key, len)).sum()
    }

    /// What the commit must return.
    fn verify(&self, commit: &Commit) -> Result<(), StorageError> {
        for check in &commit.checks {
            // Keys of a model without revisions are not checked for one.
            let revision = |found: Option<Revision>| found.unwrap_or(Revision::new(0));
            let found = self.keys.get(&check.key);
            check.verify(found.map(|(value, found)| (value, revision(*found))))?;
        }
        let (Some(budget), Some(key)) = (&commit.budget, commit.keys().next()) else {
            return Ok(());
        };
        let component = self.split(key).0;
        budget.allow(self.usage_of(&self.keys, component), self.used_after(commit, component))
    }

    fn check_key(&mut self, store: &Opened, at: &str) {
        let key = self.key();
        let expected = self.keys.get(key);
        let bytes = expected.map(|(value, _)| value.as_bytes());
        expect_value(format_args!("{at}: get({key:?})"), store.get(key).as_ref(), bytes);
        store.holds(key, bytes);
        if self.subject.has(Feature::Revisions) {
            let expected = expected.and_then(|(value, revision)| {
                Some(VersionedValue { value: value.clone(), revision: (*revision)? })
            });
            expect(
                format_args!("{at}: get_versioned({key:?})"),
                store.get_versioned(key),
                expected,
            );
        }
    }

    fn check_page(&mut self, store: &Opened, at: &str) {
        let (prefix, after) = (self.text(), self.text());
        let request = PageRequest {
            prefix,
            after: (!self.random.once_in(3)).then_some(after),
            limit: self.random.below(8),
        };
        let wanted: Vec<String> =
            self.keys.keys().filter(|key| request.wants(key)).cloned().collect();
        let page = store.list_page(request);
        expect_page(format_args!("{at}: list_page({request:?})"), &page, &wanted, request.limit);
        let wanted: Vec<String> =
            self.keys.keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        let listed = store.list_keys(Some(prefix));
        expect(format_args!("{at}: list_keys({prefix:?})"), listed, wanted);
    }

    fn check_components(&mut self, store: &Opened, at: &str) {
        let after = (!self.random.once_in(3)).then(|| self.text());
        let limit = self.random.below(5);
        let all: BTreeSet<String> =
            self.keys.keys().map(|key| split_full_key(key).0.to_owned()).collect();
        let behind = |name: &&String| after.is_none_or(|after| name.as_str() > after);
        let wanted: Vec<String> =
            all.iter().filter(|name| !name.is_empty()).filter(behind).cloned().collect();
        let page = store.list_components(after, limit);
        let what = format!("{at}: list_components({after:?}, {limit})");
        expect_page(what, &page, &wanted, limit);
    }

    fn check_usage(&mut self, store: &Opened, at: &str) {
        let prefix = self.text();
        let counted = self.keys.iter().filter(|(key, _)| key.starts_with(prefix));
        let expected: Usage = counted.map(|(key, (value, _))| Usage::of(key, value.len())).sum();
        expect(format_args!("{at}: usage({prefix:?})"), store.usage(Some(prefix)), expected);
    }

    fn check_many(&mut self, store: &Opened, at: &str) {
        let keys: Vec<&str> = (0..self.random.below(6)).map(|_| self.key()).collect();
        let expected: Vec<_> =
            keys.iter().map(|key| self.keys.get(*key).map(|(value, _)| value.clone())).collect();
        expect(format_args!("{at}: get_many({keys:?})"), store.get_many(&keys), expected);
    }

    fn check_all(&self, store: &Opened, at: &str) {
        let bytes = |(key, (value, revision)): (&String, &(StorageValue, Option<Revision>))| {
            (key.clone(), (value.as_bytes().to_vec(), *revision))
        };
        let expected = self.keys.iter().map(bytes).collect();
        expect(format_args!("{at}: the contents"), store.contents(), expected);
        for key in KEYS {
            store.holds(key, self.keys.get(*key).map(|(value, _)| value.as_bytes()));
        }
    }
}
