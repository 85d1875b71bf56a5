//! A thread that uses a storage and remembers when it did what.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use storage_core::{Commit, ComponentStorage, Revision, StorageError, StorageValue};

use crate::register::{Call, Check, Operation};

pub(crate) const KEYS: [&str; 3] = ["a", "b", "c"];

/// What the clients of a run have in common.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Orders all calls and returns.
    moment: AtomicU64,
    /// No two writes write the same.
    number: AtomicU64,
}

/// From when to when a call lasted.
#[derive(Debug, Clone, Copy)]
struct Span {
    began: u64,
    ended: u64,
}

pub(crate) struct Client<'a> {
    storage: &'a dyn ComponentStorage,
    shared: &'a Shared,
    random: u64,
    /// The last value that it read, and of which key.
    seen: Option<(usize, u64)>,
    pub(crate) calls: Vec<Call>,
    /// Which revision was said to have written which value.
    pub(crate) revisions: Vec<(u64, Revision)>,
}

impl<'a> Client<'a> {
    pub(crate) fn new(storage: &'a dyn ComponentStorage, shared: &'a Shared, seed: u64) -> Self {
        let (calls, revisions) = (Vec::new(), Vec::new());
        Self { storage, shared, random: seed, seen: None, calls, revisions }
    }

    /// A linear congruential generator is random enough, and the same every time.
    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Any operation on any key.
    pub(crate) fn step(&mut self) {
        let key = self.random(KEYS.len() as u64) as usize;
        let other = (key + 1) % KEYS.len();
        match self.random(12) {
            0 | 1 => self.get(key),
            2 => self.exists(key),
            3 => self.get_many([key, other]),
            4 => self.get_versioned(key),
            5 => self.try_get(key),
            6 | 7 => self.set(key),
            8 => self.put(key),
            9 => self.delete(key),
            10 => self.commit_both(key, other),
            _ => self.commit_checked(key, other),
        }
    }

    pub(crate) fn get(&mut self, key: usize) {
        let (span, found) = self.call(|storage| storage.get(KEYS[key]));
        self.read(key, span, found.unwrap());
    }

    fn exists(&mut self, key: usize) {
        let (span, found) = self.call(|storage| storage.exists(KEYS[key]));
        self.log(key, Operation::Exists(found.unwrap()), span);
    }

    fn get_many(&mut self, keys: [usize; 2]) {
        let (span, found) = self.call(|storage| storage.get_many(&keys.map(|key| KEYS[key])));
        for (key, found) in keys.into_iter().zip(found.unwrap()) {
            self.read(key, span, found);
        }
    }

    fn get_versioned(&mut self, key: usize) {
        let (span, found) = self.call(|storage| storage.get_versioned(KEYS[key]));
        let found = found.unwrap();
        if let Some(found) = &found {
            self.revisions.push((number(&found.value), found.revision));
        }
        self.read(key, span, found.map(|found| found.value));
    }

    fn try_get(&mut self, key: usize) {
        let (span, found) = self.call(|storage| Ok(storage.try_get("", KEYS[key])));
        if let Some(found) = found.unwrap() {
            self.read(key, span, found);
        }
    }

    pub(crate) fn set(&mut self, key: usize) {
        let (number, value) = self.new_value();
        let (span, done) = self.call(|storage| storage.set(KEYS[key], value));
        self.wrote(&[(key, Some(number))], span, done.is_some());
    }

    fn put(&mut self, key: usize) {
        let (number, value) = self.new_value();
        let (span, done) = self.call(|storage| storage_core::put(&storage, KEYS[key], value));
        self.revisions.extend(done.map(|revision| (number, revision)));
        self.wrote(&[(key, Some(number))], span, done.is_some());
    }

    fn delete(&mut self, key: usize) {
        let (span, done) = self.call(|storage| storage.delete(KEYS[key]));
        self.wrote(&[(key, None)], span, done.is_some());
    }

    fn commit_both(&mut self, key: usize, other: usize) {
        let (number, value) = self.new_value();
        let commit = Commit::new().delete(KEYS[other]).set(KEYS[key], value);
        let (span, done) = self.call(|storage| storage.commit(commit));
        self.revisions.extend(done.map(|revision| (number, revision)));
        self.wrote(&[(key, Some(number)), (other, None)], span, done.is_some());
    }

    /// Checks the key, and writes it or the other one: a compare-and-swap where it
    /// has read a value.
    fn commit_checked(&mut self, key: usize, other: usize) {
        let (key, check) = match (self.random(2), self.seen) {
            (0, Some((key, number))) => (key, Check::Value(number)),
            (1, _) => (key, Check::Present),
            _ => (key, Check::Absent),
        };
        let target = if key == other || self.random(2) == 0 { key } else { other };
        let (number, value) = self.new_value();
        let commit = match check {
            Check::Absent => Commit::new().require_absent(KEYS[key]),
            Check::Present => Commit::new().require_present(KEYS[key]),
            Check::Value(number) => Commit::new().require_value(KEYS[key], numbered(number)),
        };
        let commit = commit.set(KEYS[target], value);
        let (span, done) = self.call(|storage| match storage.commit(commit) {
            Ok(revision) => Ok(Some(revision)),
            Err(
                StorageError::AlreadyExists(_)
                | StorageError::NotFound(_)
                | StorageError::Conflict(_),
            ) => Ok(None),
            Err(error) => Err(error),
        });
        match done {
            Some(Some(revision)) => {
                self.revisions.push((number, revision));
                if target == key {
                    let to = Some(number);
                    self.log(key, Operation::Update { checked: check, to }, span);
                } else {
                    self.log(key, Operation::Checked(check, true), span);
                    self.wrote(&[(target, Some(number))], span, true);
                }
            }
            Some(None) => self.log(key, Operation::Checked(check, false), span),
            None => self.wrote(&[(target, Some(number))], span, false),
        }
    }

    /// Makes a call, and tells from when to when; `None` if it failed or panicked.
    fn call<T>(
        &self,
        call: impl FnOnce(&dyn ComponentStorage) -> Result<T, StorageError>,
    ) -> (Span, Option<T>) {
        let now = || self.shared.moment.fetch_add(1, Ordering::SeqCst);
        let began = now();
        let outcome = catch_unwind(AssertUnwindSafe(|| call(self.storage)));
        (Span { began, ended: now() }, outcome.ok().and_then(Result::ok))
    }

    fn log(&mut self, key: usize, operation: Operation, span: Span) {
        let Span { began, ended } = span;
        self.calls.push(Call { key, operation, began, ended: Some(ended) });
    }

    fn read(&mut self, key: usize, span: Span, found: Option<StorageValue>) {
        let found = found.as_ref().map(number);
        if let Some(number) = found {
            self.seen = Some((key, number));
        }
        self.log(key, Operation::Read(found), span);
    }

    /// A write that was acknowledged, or not.
    fn wrote(&mut self, writes: &[(usize, Option<u64>)], span: Span, done: bool) {
        for (key, to) in writes.iter().copied() {
            let ended = done.then_some(span.ended);
            let operation = Operation::Write(to);
            self.calls.push(Call { key, operation, began: span.began, ended });
        }
    }

    fn new_value(&self) -> (u64, StorageValue) {
        let number = self.shared.number.fetch_add(1, Ordering::Relaxed);
        (number, numbered(number))
    }
}

/// The value of a number. Every fourth is too large for a small cache.
fn numbered(number: u64) -> StorageValue {
    let filler = if number % 4 == 0 { 5_000 } else { number as usize % 100 };
    format!("{number}{}", "x".repeat(filler)).as_str().into()
}

fn number(value: &StorageValue) -> u64 {
    let text = std::str::from_utf8(value.as_bytes()).unwrap();
    text.trim_end_matches('x').parse().unwrap()
}
