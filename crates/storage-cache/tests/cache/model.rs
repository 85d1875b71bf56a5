//! Random histories on one thread, against what a cache may answer.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use storage_cache::CacheConfig;
use storage_core::conformance::{Fault, Method};
use storage_core::{Check, Commit, ComponentStorage, Expected, StorageError, StorageValue, Write};

use crate::support::{Setup, TTL, bytes, io_error};

const KEYS: [&str; 5] = ["a", "b", "c", "a/b/c/d", "key"];

#[derive(Debug, Clone)]
enum Op {
    Get(usize),
    GetMany(Vec<usize>),
    Exists(usize),
    TryGet(usize),
    GetVersioned(usize),
    Write {
        change: Change,
        failure: Option<Failure>,
    },
    /// Past the cache.
    WriteAround(usize, Option<u8>),
    Advance(u64),
    Clear,
}

#[derive(Debug, Clone)]
enum Change {
    Set(usize, u8),
    Put(usize, u8),
    Delete(usize),
    Commit { checks: Vec<(usize, Option<u8>)>, writes: Vec<(usize, Option<u8>)> },
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    panics: bool,
    takes_effect: bool,
}

fn key() -> std::ops::Range<usize> {
    0..KEYS.len()
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let value = || prop::option::weighted(0.7, any::<u8>());
    let change = prop_oneof![
        (key(), any::<u8>()).prop_map(|(key, value)| Change::Set(key, value)),
        (key(), any::<u8>()).prop_map(|(key, value)| Change::Put(key, value)),
        key().prop_map(Change::Delete),
        (vec((key(), value()), 0..3), vec((key(), value()), 0..5))
            .prop_map(|(checks, writes)| Change::Commit { checks, writes }),
    ];
    let failure = prop::option::weighted(
        0.2,
        any::<(bool, bool)>().prop_map(|(panics, takes_effect)| Failure { panics, takes_effect }),
    );
    let op = prop_oneof![
        4 => key().prop_map(Op::Get),
        2 => vec(key(), 0..8).prop_map(Op::GetMany),
        2 => key().prop_map(Op::Exists),
        2 => key().prop_map(Op::TryGet),
        2 => key().prop_map(Op::GetVersioned),
        6 => (change, failure).prop_map(|(change, failure)| Op::Write { change, failure }),
        2 => (key(), value()).prop_map(|(key, value)| Op::WriteAround(key, value)),
        2 => (1..80_u64).prop_map(Op::Advance),
        1 => Just(Op::Clear),
    ];
    vec(op, 1..80)
}

/// The larger, the larger: some are refused by the small caches.
fn value(size: u8) -> StorageValue {
    match size {
        0..200 => bytes(size.into()),
        200.. => bytes(usize::from(size) * 10),
    }
}

/// What a cache may still answer although it is no longer true.
#[derive(Default)]
struct Model {
    now: u64,
    /// For each key what was replaced around the cache, and when.
    overtaken: BTreeMap<usize, Vec<(Option<StorageValue>, u64)>>,
}

impl Model {
    fn written_around(&mut self, key: usize, before: Option<StorageValue>) {
        self.overtaken.entry(key).or_default().push((before, self.now));
    }

    fn written_through(&mut self, key: usize) {
        self.overtaken.remove(&key);
    }

    fn may_answer(
        &self,
        key: usize,
        found: &Option<StorageValue>,
        truth: &Option<StorageValue>,
    ) -> bool {
        let overtaken = self.overtaken.get(&key).into_iter().flatten();
        let mut still = overtaken.filter(|(_, since)| self.now < since + TTL.as_secs());
        found == truth || still.any(|(value, _)| value == found)
    }
}

struct Run {
    setup: Setup,
    model: Model,
}

impl Run {
    fn truth(&self, key: usize) -> Option<StorageValue> {
        self.setup.around().get(KEYS[key]).unwrap()
    }

    fn check(&self, key: usize, found: &Option<StorageValue>) -> Result<(), TestCaseError> {
        let truth = self.truth(key);
        prop_assert!(
            self.model.may_answer(key, found, &truth),
            "{}: found {found:?}, true is {truth:?}",
            KEYS[key]
        );
        Ok(())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let cached = &self.setup.cached;
        match op {
            Op::Get(key) => self.check(key, &cached.get(KEYS[key]).unwrap())?,
            Op::GetMany(keys) => {
                let names: Vec<&str> = keys.iter().map(|key| KEYS[*key]).collect();
                let found = cached.get_many(&names).unwrap();
                prop_assert_eq!(found.len(), keys.len());
                for (key, found) in keys.iter().zip(&found) {
                    self.check(*key, found)?;
                }
            }
            Op::Exists(key) => {
                let found = cached.exists(KEYS[key]).unwrap();
                let overtaken = self.model.overtaken.contains_key(&key);
                prop_assert!(overtaken || found == self.truth(key).is_some());
            }
            Op::TryGet(key) => {
                if let Some(found) = cached.try_get("", KEYS[key]) {
                    self.check(key, &found)?;
                    // It agrees with who may wait.
                    prop_assert_eq!(cached.get(KEYS[key]).unwrap(), found.clone());
                    prop_assert_eq!(cached.exists(KEYS[key]).unwrap(), found.is_some());
                }
            }
            Op::GetVersioned(key) => {
                let found = cached.get_versioned(KEYS[key]).unwrap();
                self.check(key, &found.as_ref().map(|found| found.value.clone()))?;
                if !self.model.overtaken.contains_key(&key) {
                    let truth = self.setup.around().get_versioned(KEYS[key]).unwrap();
                    prop_assert_eq!(found, truth);
                }
            }
            Op::Write { change, failure } => self.write(change, failure)?,
            Op::WriteAround(key, new) => {
                self.model.written_around(key, self.truth(key));
                match new {
                    Some(size) => self.setup.around().set(KEYS[key], value(size)).unwrap(),
                    None => self.setup.around().delete(KEYS[key]).unwrap(),
                }
            }
            Op::Advance(seconds) => {
                self.model.now += seconds;
                self.setup.clock.advance(Duration::from_secs(seconds));
            }
            Op::Clear => {
                cached.clear();
                self.model.overtaken.clear();
                prop_assert_eq!(cached.stats().entries, 0);
                prop_assert_eq!(cached.stats().bytes, 0);
            }
        }
        let stats = self.setup.cached.stats();
        let config = self.setup.cached.config();
        prop_assert!(stats.entries <= config.max_entries as u64, "{:?}", stats);
        prop_assert!(stats.bytes <= config.max_size_bytes as u64, "{:?}", stats);
        prop_assert_eq!(stats.entries == 0, stats.bytes == 0, "{:?}", stats);
        Ok(())
    }

    fn write(&mut self, change: Change, failure: Option<Failure>) -> Result<(), TestCaseError> {
        if let Some(Failure { panics, takes_effect }) = failure {
            let fault = if panics { Fault::panic("on purpose") } else { Fault::error(io_error()) };
            let fault = fault.on(&Method::WRITES).nth(1);
            self.setup.failing().inject(if takes_effect { fault.after() } else { fault });
        }
        let cached = &self.setup.cached;
        let write =
            |key: usize, size: Option<u8>| Write { key: KEYS[key].into(), value: size.map(value) };
        let (checked, written): (Vec<usize>, Vec<usize>) = match &change {
            Change::Set(key, _) | Change::Put(key, _) | Change::Delete(key) => (vec![], vec![*key]),
            Change::Commit { checks, writes } => {
                let keys =
                    |list: &[(usize, Option<u8>)]| list.iter().map(|(key, _)| *key).collect();
                (keys(checks), keys(writes))
            }
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| match change {
            Change::Set(key, size) => cached.set(KEYS[key], value(size)),
            Change::Put(key, size) => storage_core::put(&cached, KEYS[key], value(size)).map(drop),
            Change::Delete(key) => cached.delete(KEYS[key]),
            Change::Commit { checks, writes } => {
                let expected = |size: Option<u8>| match size {
                    Some(size) if size % 2 == 0 => Expected::Present,
                    Some(size) => Expected::Value(value(size)),
                    None => Expected::Absent,
                };
                let check = |(key, size): (usize, Option<u8>)| Check {
                    key: KEYS[key].into(),
                    expected: expected(size),
                };
                let commit = Commit {
                    checks: checks.into_iter().map(check).collect(),
                    writes: writes.into_iter().map(|(key, size)| write(key, size)).collect(),
                    budget: None,
                };
                cached.commit(commit).map(drop)
            }
        }));
        let succeeded = matches!(outcome, Ok(Ok(())));
        if let Ok(Err(error)) = &outcome {
            let refused = matches!(
                error,
                StorageError::AlreadyExists(_)
                    | StorageError::NotFound(_)
                    | StorageError::Conflict(_)
            );
            prop_assert!(refused || *error == io_error(), "{}", error);
        }
        prop_assert!(!succeeded || failure.is_none());
        self.setup.failing().heal();
        for key in written.iter().chain(checked.iter().filter(|_| !succeeded)) {
            self.model.written_through(*key);
            match self.setup.cached.try_get("", KEYS[*key]) {
                Some(found) => prop_assert_eq!(found, self.truth(*key)),
                // What succeeded is at hand, unless it was too large.
                None if succeeded => {
                    let large = |value: StorageValue| value.len() > 1_000;
                    prop_assert!(self.truth(*key).is_some_and(large) || written.len() > 1);
                }
                None => {}
            }
            prop_assert!(succeeded || self.setup.cached.try_get("", KEYS[*key]).is_none());
        }
        Ok(())
    }
}

fn configs() -> impl Strategy<Value = CacheConfig> {
    (prop_oneof![1_usize..8, Just(10_000)], prop_oneof![Just(4 << 10), Just(1_usize << 20)])
        .prop_map(|(max_entries, max_size_bytes)| CacheConfig {
            max_entries,
            ttl: Some(TTL),
            max_size_bytes,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_answers_what_is_true_or_was_within_the_ttl(config in configs(), ops in ops()) {
        let mut run = Run { setup: Setup::with(config), model: Model::default() };
        for op in ops {
            run.step(op)?;
        }
    }
}
