//! The RocksDB store against RocksDB itself, on a copy of the store's own folder
//! and with the same options.

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Result, ensure};
use benches::measure::{self, Compared, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Size, machine};
use storage_backends::{Durability, RocksDbOptions, RocksDbStorage};
use storage_core::{Budget, Commit, ComponentStorage};

use crate::data::{self, Data};
use crate::figures::Figures;
use crate::rocks_raw::{self, Raw};

/// How many keys a commit has.
const COMMITTED: usize = 100;

/// A quota that is never reached.
const QUOTA: Budget = Budget { max_bytes: 1 << 50, max_keys: 1 << 50 };

/// Measures, prints, and tells what it is worth beside other engines.
pub(crate) fn run(folder: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(size.pick(1_000_000, 100_000));
    let (path, copy) = (folder.join("store"), folder.join("raw"));
    let options = RocksDbOptions::default().with_durability(Durability::Os);
    let store = RocksDbStorage::open(&path, options.clone())?;
    data.load(&store)?;
    drop(store);
    let bytes = machine::bytes_on_disk(&path)?;
    fs::create_dir(&copy)?;
    for file in fs::read_dir(&path)? {
        let file = file?;
        fs::copy(file.path(), copy.join(file.file_name()))?;
    }
    machine::settle();

    let bench = Bench { data: &data, rounds: size.pick(27, 3) };
    let store = RocksDbStorage::open(&path, options.clone())?;
    let raw = Raw::open(&copy, &options)?;
    rocks_raw::compare_options(&path, &copy)?;
    raw.compare(&store, &data)?;
    let get = bench.get(&store, &raw)?;
    let listing = bench.listing(&store, &raw)?;
    let mut rows = vec![
        Row::new("get", get, Target::TimeAtMost(1.10)),
        Row::new("10,000 keys listed", listing, Target::TimeAtMost(1.25)),
        Row::new("set", bench.set(&store, &raw)?, Target::TimeAtMost(1.10)),
        Row::new("70 % get, 30 % set", bench.mix(&store, &raw)?, Target::TimeAtMost(1.10)),
        Row::new("commit of 100 keys", bench.commit(&store, &raw)?, Target::TimeAtMost(1.10)),
    ];
    raw.compare(&store, &data)?;
    drop(store);
    raw.close()?;

    let options = options.with_durability(Durability::Sync);
    let store = RocksDbStorage::open(&path, options.clone())?;
    let raw = Raw::open(&copy, &options)?;
    let by_one = bench.synced(1, &store, &raw)?;
    let by_sixteen = bench.synced(16, &store, &raw)?;
    rows.push(Row::new("synced set, writers: 1", by_one, Target::Rate));
    rows.push(Row::new("synced set, writers: 16", by_sixteen, Target::RateAtLeast(0.9)));
    raw.compare(&store, &data)?;
    drop(store);
    raw.close()?;

    let options = options.with_durability(Durability::Os);
    let store = RocksDbStorage::open(&path, options.clone())?;
    let raw = Raw::open(&copy, &options)?;
    let budgeted = bench.set_with_quota(&store, &raw)?;
    rows.push(Row::new("set with a quota", budgeted, Target::TimeAtMost(1.15)));
    raw.compare(&store, &data)?;

    println!("{}", comparisons(["RocksDB store", "RocksDB"], &rows));
    Ok(Figures {
        engine: "RocksDB",
        put_by_one: by_one.first,
        put_by_sixteen: by_sixteen.first,
        get: get.first,
        listing: listing.first,
        keys: data.len(),
        bytes,
    })
}

/// What is measured of both sides.
struct Bench<'a> {
    data: &'a Data,
    rounds: usize,
}

impl Bench<'_> {
    fn compare(
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

    fn get(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        self.compare(
            50_000,
            1_000,
            |number| self.get_ours(store, number),
            |number| self.get_raw(raw, number),
        )
    }

    fn get_ours(&self, store: &RocksDbStorage, number: usize) -> Result<()> {
        let found = store.get(self.data.key(number))?;
        ensure!(std::hint::black_box(found).is_some(), "a key is missing");
        Ok(())
    }

    fn get_raw(&self, raw: &Raw, number: usize) -> Result<()> {
        let found = raw.get(self.data.key(number))?;
        ensure!(std::hint::black_box(found).is_some(), "a key is missing");
        Ok(())
    }

    fn listing(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        let components = self.data.components();
        self.compare(
            100,
            5,
            |number| {
                let found = store.list_keys(Some(&data::prefix(number % components)))?;
                ensure!(std::hint::black_box(found).len() == data::KEYS_EACH, "keys are missing");
                Ok(())
            },
            |number| {
                let found = raw.list(&data::prefix(number % components))?;
                ensure!(std::hint::black_box(found).len() == data::KEYS_EACH, "keys are missing");
                Ok(())
            },
        )
    }

    fn set_ours(&self, store: &RocksDbStorage, number: usize) -> Result<()> {
        Ok(store.set(self.data.key(number), self.data.value(number))?)
    }

    fn set_raw(&self, raw: &Raw, number: usize) -> Result<()> {
        raw.set(self.data.key(number), self.data.value(number).as_bytes())
    }

    fn set(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        self.compare(
            40_000,
            1_000,
            |number| self.set_ours(store, number),
            |number| self.set_raw(raw, number),
        )
    }

    fn mix(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        // Other random numbers than those that choose the keys.
        let sets = |number: usize| data::mixed(!(number as u64)) % 10 < 3;
        self.compare(
            40_000,
            1_000,
            |number| match sets(number) {
                true => self.set_ours(store, number),
                false => self.get_ours(store, number),
            },
            |number| match sets(number) {
                true => self.set_raw(raw, number),
                false => self.get_raw(raw, number),
            },
        )
    }

    /// A commit is built from its keys and values, as by whoever makes one.
    fn commit(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        let keys_of = |number: usize| number * COMMITTED..(number + 1) * COMMITTED;
        self.compare(
            400,
            20,
            |number| {
                let mut commit = Commit::new();
                for number in keys_of(number) {
                    commit = commit.set(self.data.key(number), self.data.value(number));
                }
                store.commit(commit)?;
                Ok(())
            },
            |number| {
                raw.set_many(
                    keys_of(number).map(|number| (self.data.key(number), self.data.value(number))),
                )
            },
        )
    }

    fn synced(&self, writers: usize, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        let ours = |number| Ok(store.set(self.data.key(number), self.data.value_of_key(number))?);
        let by_raw =
            |number| raw.set(self.data.key(number), self.data.value_of_key(number).as_bytes());
        let operations = if writers == 1 { 300 } else { 3_000 };
        measure::compare(
            Plan { rounds: self.rounds, operations, turn: operations },
            &mut |numbers| measure::together(writers, numbers, &ours),
            &mut |numbers| measure::together(writers, numbers, &by_raw),
        )
    }

    fn set_with_quota(&self, store: &RocksDbStorage, raw: &Raw) -> Result<Compared> {
        let ours = |number: usize| {
            let commit = Commit::new().set(self.data.key(number), self.data.value(number));
            store.commit(commit.with_budget(QUOTA))?;
            Ok(())
        };
        // What the raw side knows of all that is stored.
        let used = Cell::new(0);
        let by_raw = |number| {
            let (key, value) = (self.data.key(number), self.data.value(number));
            let old = raw.len_of_value(key)?;
            used.set(used.get() + value.len() as i64 - old as i64);
            raw.set(key, value.as_bytes())
        };
        // The first budget of a component counts its keys.
        for component in 0..self.data.components() {
            let prefix = data::prefix(component);
            store.commit(Commit::new().delete(format!("{prefix}none")).with_budget(QUOTA))?;
        }
        self.compare(40_000, 1_000, ours, by_raw)
    }
}
