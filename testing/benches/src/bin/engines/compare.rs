//! The same operations on a store and on its engine.

use std::hint::black_box;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use benches::measure::{self, Compared, Plan};
use storage_core::ComponentStorage;

use crate::data::{self, Data};

/// An engine used directly.
pub(crate) trait Raw: Sync {
    /// The value of a key.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Sets a key to the record of a value.
    fn set(&self, key: &str, value: &[u8]) -> Result<()>;

    /// All keys with a prefix.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// The record of a key.
    fn record(&self, key: &str) -> Result<Option<Vec<u8>>>;
}

/// A store and its engine, which hold the same data.
pub(crate) struct Bench<'a, R> {
    pub(crate) store: &'a dyn ComponentStorage,
    pub(crate) raw: &'a R,
    pub(crate) data: &'a Data,
    pub(crate) rounds: usize,
}

impl<R: Raw> Bench<'_, R> {
    /// Does operations on both sides in turns.
    pub(crate) fn compare(
        &self,
        operations: usize,
        turn: usize,
        ours: impl Fn(usize) -> Result<()>,
        raw: impl Fn(usize) -> Result<()>,
    ) -> Result<Compared> {
        measure::compare(
            Plan { rounds: self.rounds, operations, turn },
            &mut |mut numbers: Range<usize>| numbers.try_for_each(&ours),
            &mut |mut numbers: Range<usize>| numbers.try_for_each(&raw),
        )
    }

    pub(crate) fn get_ours(&self, number: usize) -> Result<()> {
        let found = self.store.get(self.data.key(number))?;
        ensure!(black_box(found).is_some(), "a key is missing");
        Ok(())
    }

    pub(crate) fn get_raw(&self, number: usize) -> Result<()> {
        let found = self.raw.get(self.data.key(number))?;
        ensure!(black_box(found).is_some(), "a key is missing");
        Ok(())
    }

    pub(crate) fn set_ours(&self, number: usize) -> Result<()> {
        Ok(self.store.set(self.data.key(number), self.data.value_of_key(number))?)
    }

    pub(crate) fn set_raw(&self, number: usize) -> Result<()> {
        self.raw.set(self.data.key(number), self.data.value_of_key(number).as_bytes())
    }

    pub(crate) fn get(&self) -> Result<Compared> {
        self.compare(50_000, 1_000, |number| self.get_ours(number), |number| self.get_raw(number))
    }

    pub(crate) fn set(&self, operations: usize, turn: usize) -> Result<Compared> {
        self.compare(
            operations,
            turn,
            |number| self.set_ours(number),
            |number| self.set_raw(number),
        )
    }

    /// Lists all keys of a component.
    pub(crate) fn listing(&self) -> Result<Compared> {
        let prefix = |number| data::prefix(number % self.data.components());
        let check = |found: Vec<String>| {
            ensure!(black_box(found).len() == data::KEYS_EACH, "keys are missing");
            Ok(())
        };
        self.compare(
            100,
            5,
            |number| check(self.store.list_keys(Some(&prefix(number)))?),
            |number| check(self.raw.list(&prefix(number))?),
        )
    }

    /// Fails unless both sides hold the same keys and records.
    pub(crate) fn check(&self) -> Result<()> {
        let mut expected = Vec::new();
        for key in self.data.in_random_order().take(20_000) {
            let found = self.store.get(key)?.context("a key is missing")?;
            let record = self.raw.record(key)?.context("a key is missing")?;
            data::record(key, found.as_bytes(), data::revision_in(&record), &mut expected);
            ensure!(expected == record, "the two sides hold different records of {key}");
        }
        for component in 0..self.data.components() {
            let prefix = data::prefix(component);
            let same = self.store.list_keys(Some(&prefix))? == self.raw.list(&prefix)?;
            ensure!(same, "the two sides list different keys of {prefix}");
        }
        Ok(())
    }
}
