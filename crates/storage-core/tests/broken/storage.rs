//! A storage that keeps the whole contract except for one defect, chosen by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use storage_core::{
    Budget, Commit, Compacted, ComponentStorage, KeyPage, MAX_FULL_KEY_BYTES, PageRequest, Problem,
    Revision, SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties,
    Usage, Verified, VersionedValue, Write, join_key, split_full_key, validate_full_key,
};

#[derive(Debug, Default)]
pub(crate) struct Broken {
    pub(super) defect: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub(super) keys: BTreeMap<String, VersionedValue>,
    pub(super) last_revision: u64,
    /// The usage of each component, in user keys.
    pub(super) usage: BTreeMap<String, Usage>,
    pub(super) first_budget: Option<Budget>,
    pub(super) times_opened: u32,
    /// For some defects: every key that was set, with repetitions, those that were
    /// deleted or committed, and listings.
    pub(super) sets: Vec<String>,
    pub(super) deleted: BTreeSet<String>,
    pub(super) committed: BTreeSet<String>,
    pub(super) listings: BTreeMap<String, Vec<String>>,
}

type Found = Result<Option<StorageValue>, StorageError>;

impl Broken {
    pub(crate) fn new(defect: &'static str) -> Self {
        Self { defect, ..Self::default() }
    }

    pub(super) fn is(&self, defect: &str) -> bool {
        self.defect == defect
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives other threads time to run.
    pub(super) fn let_others_run(&self) {
        thread::sleep(Duration::from_micros(300));
    }

    /// Called between closing and opening again.
    pub(crate) fn open_again(&self) {
        let mut state = self.state();
        state.times_opened += 1;
        let largest = state.keys.values().map(|found| found.revision.get()).max();
        match self.defect {
            "nothing is persistent" => *state = State::default(),
            "a lock file is listed after reopening" if state.times_opened > 1 => {
                let found = VersionedValue { value: "".into(), revision: Revision::new(0) };
                state.keys.insert(".lock".to_owned(), found);
            }
            "deletes are not persistent" => {
                for key in std::mem::take(&mut state.deleted) {
                    let found = VersionedValue { value: "".into(), revision: Revision::new(1) };
                    state.keys.entry(key).or_insert(found);
                }
            }
            "unscoped keys are not persistent" => {
                state.keys.retain(|key, _| !split_full_key(key).0.is_empty());
            }
            "flushed writes are lost" if state.times_opened > 1 => state.keys.clear(),
            "commits are not persistent" => {
                let committed = std::mem::take(&mut state.committed);
                state.keys.retain(|key, _| !committed.contains(key));
            }
            "reopening changes the revisions of keys" => {
                for found in state.keys.values_mut() {
                    found.revision = Revision::new(found.revision.get() + 1000);
                }
            }
            "revisions restart after reopening" => state.last_revision = 0,
            "revisions continue from the largest stored one" => {
                state.last_revision = largest.unwrap_or_default();
            }
            "the usage counter is not persistent" => state.usage.clear(),
            _ => {}
        }
    }

    /// The key as it is stored.
    pub(super) fn stored(&self, key: &str) -> Result<String, StorageError> {
        if !self.is("keys are not validated") {
            validate_full_key(key)?;
        }
        if self.is("long keys are refused") && key.len() > MAX_FULL_KEY_BYTES / 2 {
            return Err(StorageError::InvalidKey("it is long".into()));
        }
        let (component, user_key) = split_full_key(key);
        Ok(match self.defect {
            "keys are lowercased" => key.to_lowercase(),
            "keys are normalised" => key.replace("e\u{301}", "\u{e9}"),
            "user keys are lowercased" if !component.is_empty() => {
                component.to_owned() + &user_key.to_lowercase()
            }
            "dots in component prefixes are resolved" => component.replace("./", "") + user_key,
            _ => key.to_owned(),
        })
    }

    fn value_as_stored(&self, value: StorageValue) -> StorageValue {
        let bytes = value.as_bytes();
        match self.defect {
            "values are cut at 64 KiB" => bytes.get(..1 << 16).unwrap_or(bytes).into(),
            "values are lowercased" => bytes.to_ascii_lowercase().into(),
            _ => value,
        }
    }

    pub(super) fn next_revision(&self, state: &mut State, key: &str) -> Revision {
        let of_key = state.keys.get(key).map_or(0, |found| found.revision.get());
        let ever = state.sets.iter().filter(|set| *set == key).count() as u64;
        state.last_revision += 1;
        Revision::new(match self.defect {
            "revisions restart after a delete" => of_key + 1,
            "each key counts its own revisions" => ever + 1,
            _ => state.last_revision,
        })
    }

    pub(super) fn write(
        &self,
        state: &mut State,
        key: &str,
        value: Option<StorageValue>,
        revision: Revision,
        budgeted: bool,
    ) {
        let (component, user_key) = split_full_key(key);
        let value = value.map(|value| self.value_as_stored(value));
        let old = state.keys.get(key).cloned();
        let usage = state.usage.entry(component.to_owned()).or_default();
        let counted = budgeted || !self.is("writes without a budget are not counted");
        if counted {
            let added = value.as_ref().map(|new| Usage::of(user_key, new.len()));
            *usage = *usage + added.unwrap_or_default();
        }
        let frees = match self.defect {
            "deletes free no budget" => value.is_some(),
            "an overwrite counts in full" => value.is_none(),
            _ => true,
        };
        if counted && frees {
            let removed = old.as_ref().map(|old| Usage::of(user_key, old.value.len()));
            *usage = *usage - removed.unwrap_or_default();
        }
        match value {
            Some(value) => {
                state.sets.push(key.to_owned());
                state.deleted.remove(key);
                let unchanged = old.filter(|old| old.value == value);
                let revision = match unchanged {
                    Some(old) if self.is("the same value keeps its revision") => old.revision,
                    _ => revision,
                };
                state.keys.insert(key.to_owned(), VersionedValue { value, revision });
            }
            None => {
                state.deleted.insert(key.to_owned());
                state.keys.remove(key);
            }
        }
    }

    fn store(&self, key: &str, value: StorageValue) -> Result<Revision, StorageError> {
        let key = self.stored(key)?;
        let mut state = self.state();
        if self.is("a deleted key cannot be set again") && state.deleted.contains(&key) {
            return Ok(Revision::new(0));
        }
        let limited = self.is("writes without a budget are limited by the first one");
        if let Some(budget) = state.first_budget.filter(|_| limited) {
            let write = Write { key: key.clone(), value: Some(value.clone()) };
            self.allow(&state, &budget, &[&write])?;
        }
        if self.is("values are written in two halves") {
            let half = value.as_bytes().split_at(value.len() / 2).0;
            self.write(&mut state, &key, Some(half.into()), Revision::new(0), false);
            drop(state);
            self.let_others_run();
            state = self.state();
        }
        if self.is("a write overwrites concurrent writes") {
            let mut copy = state.clone();
            drop(state);
            self.let_others_run();
            let revision = self.next_revision(&mut copy, &key);
            self.write(&mut copy, &key, Some(value), revision, false);
            *self.state() = copy;
            return Ok(revision);
        }
        let revision = self.next_revision(&mut state, &key);
        if self.is("revisions are assigned before the lock") {
            drop(state);
            if revision.get().is_multiple_of(2) {
                self.let_others_run();
            }
            state = self.state();
        }
        self.write(&mut state, &key, Some(value), revision, false);
        Ok(revision)
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let mut state = self.state();
        let mut keys: Vec<String> = match self.defect {
            "commits are not listed" => {
                state.keys.keys().filter(|key| !state.committed.contains(*key)).cloned().collect()
            }
            _ => state.keys.keys().cloned().collect(),
        };
        if self.is("a listing consists of two reads") {
            let half = keys.len() / 2;
            keys.truncate(half);
            drop(state);
            self.let_others_run();
            state = self.state();
            keys.extend(state.keys.keys().skip(half).cloned());
        }
        if self.is("a lock file is listed") {
            keys.push("a/b/c/.lock".to_owned());
        }
        keys.sort();
        keys.retain(|key| match self.defect {
            "prefixes are ignored" => true,
            "prefixes are patterns" => {
                key.starts_with(prefix.split(['*', '%', '?']).next().unwrap_or_default())
            }
            "prefixes end at a slash" => key.strip_prefix(prefix).is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with('/')
                    || prefix.is_empty()
                    || prefix.ends_with('/')
            }),
            "a prefix loses its last slash" => {
                key.starts_with(prefix.strip_suffix('/').unwrap_or(prefix))
            }
            _ => key.starts_with(prefix),
        });
        match self.defect {
            "listings lowercase their keys" => {
                keys = keys.iter().map(|key| key.to_lowercase()).collect()
            }
            "listings are in the order of UTF-16" => {
                keys.sort_by_key(|key| key.encode_utf16().collect::<Vec<_>>());
            }
            "listings are grouped by component" => {
                keys.sort_by(|a, b| split_full_key(a).cmp(&split_full_key(b)));
            }
            "the first listing is cached" => {
                keys = state.listings.entry(prefix.to_owned()).or_insert(keys).clone();
            }
            _ => {}
        }
        keys
    }
}

#[deny(clippy::missing_trait_methods)]
impl ComponentStorage for Broken {
    fn get(&self, key: &str) -> Found {
        let key = self.stored(key)?;
        let found = self.state().keys.get(&key).map(|found| found.value.clone());
        Ok(match found {
            None if self.is("a missing key reads as empty") => Some("".into()),
            found => found,
        })
    }

    fn set(&self, key: &str, value: StorageValue) -> Result<(), StorageError> {
        if self.is("set keeps the first value") && self.exists(key)? {
            return Ok(());
        }
        self.store(key, value).map(drop)
    }

    fn delete(&self, key: &str) -> Result<(), StorageError> {
        let key = self.stored(key)?;
        let mut state = self.state();
        let revision = self.next_revision(&mut state, &key);
        match self.defect {
            "deleting a missing key fails" if !state.keys.contains_key(&key) => {
                return Err(StorageError::NotFound(key));
            }
            "delete does nothing" => return Ok(()),
            "delete removes every key with this prefix" => {
                state.keys.retain(|of, _| !of.starts_with(&key))
            }
            "a write overwrites concurrent writes" => {
                let mut copy = state.clone();
                drop(state);
                self.let_others_run();
                self.write(&mut copy, &key, None, revision, false);
                *self.state() = copy;
                return Ok(());
            }
            _ => {}
        }
        self.write(&mut state, &key, None, revision, false);
        Ok(())
    }

    fn exists(&self, key: &str) -> Result<bool, StorageError> {
        let key = self.stored(key)?;
        let state = self.state();
        let found = state.keys.get(&key);
        Ok(match self.defect {
            "exists is false for an empty value" => {
                found.is_some_and(|found| !found.value.is_empty())
            }
            "exists stays true" => found.is_some() || state.deleted.contains(&key),
            _ => found.is_some(),
        })
    }

    fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, StorageError> {
        if self.is("an empty prefix selects nothing") && prefix == Some("") {
            return Ok(Vec::new());
        }
        Ok(self.keys(prefix.unwrap_or_default()))
    }

    fn list_page(&self, request: PageRequest<'_>) -> Result<KeyPage, StorageError> {
        let PageRequest { prefix, after, limit } = request;
        let prefix = match after {
            Some(_) if self.is("`after` drops the prefix") => "",
            _ => prefix,
        };
        let mut keys = self.keys(prefix);
        let gone = after.is_some_and(|after| !keys.iter().any(|key| key == after));
        match self.defect {
            "`after` is inclusive" => keys.retain(|key| after.is_none_or(|after| &**key >= after)),
            _ => keys.retain(|key| after.is_none_or(|after| &**key > after)),
        }
        if self.is("a key is skipped if `after` is missing") && gone && !keys.is_empty() {
            keys.remove(0);
        }
        let found = keys.len();
        let mut page = match self.defect {
            "limits are ignored" => KeyPage { keys, more: false },
            _ => KeyPage::cut(keys, limit),
        };
        match self.defect {
            "more is true for every full page" => page.more = page.keys.len() == limit,
            "an empty page has more" if found == 0 => page.more = true,
            "large pages lose a key" if page.keys.len() > 6 => {
                page.keys.remove(3);
            }
            _ => {}
        }
        Ok(page)
    }

    fn get_many(&self, keys: &[&str]) -> Result<Vec<Option<StorageValue>>, StorageError> {
        let mut keys = keys.to_vec();
        match self.defect {
            "get_many returns byte order" => keys.sort_unstable(),
            "get_many skips refused keys" => keys.retain(|key| self.stored(key).is_ok()),
            _ => {}
        }
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn usage(&self, prefix: Option<&str>) -> Result<Usage, StorageError> {
        let state = self.state();
        let prefix = match self.defect {
            "usage ignores its prefix" => "",
            _ => prefix.unwrap_or_default(),
        };
        let of_keys = state.keys.iter().filter(|(key, _)| key.starts_with(prefix));
        let total: Usage = of_keys.map(|(key, found)| Usage::of(key, found.value.len())).sum();
        Ok(match self.defect {
            "usage counts characters" => {
                let chars: usize = state.keys.keys().map(|key| key.chars().count()).sum();
                Usage { bytes: chars as u64, keys: total.keys }
            }
            "usage never shrinks" => {
                let deleted = state.deleted.iter().map(|key| Usage::of(key, 0));
                total + deleted.sum()
            }
            _ => total,
        })
    }

    fn try_get(&self, prefix: &str, key: &str) -> Option<Option<StorageValue>> {
        match self.defect {
            "try_get reports every key as missing" => Some(None),
            "try_get ignores its prefix" if !prefix.is_empty() => self.get(key).ok(),
            _ => self.get(&join_key(prefix, key)).ok(),
        }
    }

    fn get_versioned(&self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
        let key = self.stored(key)?;
        let state = self.state();
        let last = Revision::new(state.last_revision);
        let found = state.keys.get(&key).cloned();
        Ok(match (self.defect, found) {
            ("a missing key has a revision", None) => {
                Some(VersionedValue { value: "".into(), revision: last })
            }
            ("every key has the last revision", Some(found)) => {
                Some(VersionedValue { revision: last, ..found })
            }
            ("values and revisions are read separately", Some(found)) => {
                drop(state);
                self.let_others_run();
                let later = self.state().keys.get(&key).map_or(last, |later| later.revision);
                Some(VersionedValue { revision: later, ..found })
            }
            (_, found) => found,
        })
    }

    fn commit(&self, commit: Commit) -> Result<Revision, StorageError> {
        let (key, value) = match &*commit.writes {
            [Write { key, value: Some(value) }] if commit.checks.is_empty() => (key, value),
            _ => return self.apply(commit),
        };
        match self.defect {
            "put keeps the first value" if self.exists(key)? => self.apply(Commit::new()),
            "put returns the previous revision" => {
                let written = self.store(key, value.clone());
                written.map(|revision| Revision::new(revision.get() - 1))
            }
            "revisions are assigned before the lock" => self.store(key, value.clone()),
            _ => self.apply(commit),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl Store for Broken {
    fn properties(&self) -> StoreProperties {
        StoreProperties::new("broken")
    }

    fn list_components(&self, after: Option<&str>, limit: usize) -> Result<KeyPage, StorageError> {
        let state = self.state();
        let mut all: Vec<String> =
            state.keys.keys().map(|key| split_full_key(key).0.to_owned()).collect();
        match self.defect {
            "components end at the second slash" => {
                let second = |key: &String| key.match_indices('/').nth(1).map(|(at, _)| at + 1);
                let cut = |key: &String| key.get(..second(key)?).map(str::to_owned);
                all = state.keys.keys().filter_map(cut).collect();
            }
            "components without keys are listed" => {
                all.extend(state.deleted.iter().map(|key| split_full_key(key).0.to_owned()));
            }
            "unscoped keys are a component" if all.iter().any(String::is_empty) => {
                all.push("~".to_owned())
            }
            "a missing component is listed" => all.push("a/b/d/".to_owned()),
            _ => {}
        }
        all.retain(|name| !name.is_empty());
        all.sort();
        if !self.is("components are listed for each key") {
            all.dedup();
        }
        match self.defect {
            "components repeat `after`" => {
                all.retain(|name| after.is_none_or(|after| &**name >= after))
            }
            _ => all.retain(|name| after.is_none_or(|after| &**name > after)),
        }
        Ok(KeyPage::cut(all, limit))
    }

    fn read_snapshot(
        &self,
        prefix: &str,
        after: Option<&str>,
        visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), StorageError> {
        let state = self.state();
        let prefix = if self.is("a snapshot ignores its prefix") { "" } else { prefix };
        let after = after.filter(|_| !self.is("a snapshot ignores `after`"));
        let request = PageRequest { prefix, after, limit: usize::MAX };
        let mut found: Vec<(String, StorageValue)> = state
            .keys
            .iter()
            .filter(|(key, _)| request.wants(key))
            .map(|(key, found)| (key.clone(), found.value.clone()))
            .collect();
        drop(state);
        if self.is("a snapshot reads each key separately") {
            for (key, value) in &mut found {
                self.let_others_run();
                if let Some(now) = self.state().keys.get(key) {
                    *value = now.value.clone();
                }
            }
        }
        if self.is("a snapshot consists of two reads") {
            found.truncate(found.len() / 2);
            self.let_others_run();
            let last = found.last().map(|(key, _)| key.clone());
            let state = self.state();
            let rest = state.keys.iter().filter(|(key, _)| {
                request.wants(key) && last.as_ref().is_none_or(|last| *key > last)
            });
            found.extend(rest.map(|(key, found)| (key.clone(), found.value.clone())));
        }
        if self.is("a snapshot does not stop") {
            found.iter().for_each(|(key, value)| drop(visit(key, value.clone())));
            return Ok(());
        }
        found.into_iter().try_for_each(|(key, value)| visit(&key, value))
    }

    fn flush(&self) -> Result<(), StorageError> {
        if self.is("flush removes a key") {
            let mut state = self.state();
            state.keys.pop_first();
        }
        Ok(())
    }

    fn verify(&self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        let mut verified = Verified::default();
        let components = self.list_components(None, usize::MAX)?.keys.len() as u64;
        let unscoped = u64::from(self.is("verify counts unscoped keys as a component"));
        (verified.usage, verified.components) = (self.usage(None)?, components + unscoped);
        Ok(verified)
    }

    fn compact(&self) -> Result<Compacted, StorageError> {
        if self.is("compacting drops empty values") {
            self.state().keys.retain(|_, found| !found.value.is_empty());
        }
        Ok(Compacted::default())
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }
}
