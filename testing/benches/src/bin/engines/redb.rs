//! The redb store against redb itself, on a copy of the store's own file.

use std::fs;
use std::path::Path;

use ::redb::{Database, ReadableDatabase as _, TableDefinition};
use anyhow::{Context as _, Result, ensure};
use benches::measure::{self, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Size, machine};
use storage_backends::{RedbOptions, RedbStorage};
use storage_core::{ComponentStorage, Revision};

use crate::data::{self, Data};
use crate::figures::Figures;

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("data");

/// Measures, prints, and tells what it is worth beside other engines.
pub(crate) fn run(folder: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(size.pick(1_000_000, 100_000));
    let options = RedbOptions::default();
    let (path, copy) = (folder.join("store.redb"), folder.join("raw.redb"));
    let store = RedbStorage::open(&path, options.clone())?;
    data.load(&store)?;
    drop(store);
    let bytes = machine::bytes_on_disk(&path)?;
    fs::copy(&path, &copy)?;
    machine::settle();
    let store = RedbStorage::open(&path, options.clone())?;
    let raw = Raw(Database::builder().set_cache_size(options.cache_bytes).open(&copy)?);
    raw.compare(&store, &data)?;

    let rounds = size.pick(11, 3);
    let get = measure::compare(
        Plan { rounds, operations: 50_000, turn: 1_000 },
        &mut |mut numbers| {
            numbers.try_for_each(|number| {
                let found = store.get(data.key(number))?;
                ensure!(std::hint::black_box(found).is_some(), "a key is missing");
                Ok(())
            })
        },
        &mut |mut numbers| {
            numbers.try_for_each(|number| {
                let found = raw.get(data.key(number))?;
                ensure!(std::hint::black_box(found).is_some(), "a key is missing");
                Ok(())
            })
        },
    )?;
    let listing = measure::compare(
        Plan { rounds, operations: 100, turn: 5 },
        &mut |mut numbers| {
            numbers.try_for_each(|number| {
                let prefix = data::prefix(number % data.components());
                let found = store.list_keys(Some(&prefix))?;
                ensure!(std::hint::black_box(found).len() == data::KEYS_EACH, "keys are missing");
                Ok(())
            })
        },
        &mut |mut numbers| {
            numbers.try_for_each(|number| {
                let found = raw.list(&data::prefix(number % data.components()))?;
                ensure!(std::hint::black_box(found).len() == data::KEYS_EACH, "keys are missing");
                Ok(())
            })
        },
    )?;
    let set = |number| Ok(store.set(data.key(number), data.value_of_key(number))?);
    let put = measure::compare(
        Plan { rounds, operations: 200, turn: 1 },
        &mut |mut numbers| numbers.try_for_each(set),
        &mut |mut numbers| {
            numbers.try_for_each(|number| {
                raw.set(data.key(number), data.value_of_key(number).as_bytes())
            })
        },
    )?;
    raw.compare(&store, &data)?;
    println!(
        "{}",
        comparisons(
            ["redb store", "redb"],
            &[
                Row::new("get", get, Target::TimeAtMost(1.10)),
                Row::new("10,000 keys listed", listing, Target::TimeAtMost(1.10)),
                Row::new("synced set, writers: 1", put, Target::Time),
            ]
        )
    );
    let writers = measure::compare(
        Plan { rounds, operations: 800, turn: 800 },
        &mut |numbers| measure::together(16, numbers, &set),
        &mut |numbers| measure::together(1, numbers, &set),
    )?;
    println!(
        "{}",
        comparisons(
            ["16 writers", "1 writer"],
            &[Row::new("redb store, synced set", writers, Target::RateAtLeast(4.0))]
        )
    );
    Ok(Figures {
        engine: "redb",
        put_by_one: writers.second,
        put_by_sixteen: writers.first,
        get: get.first,
        listing: listing.first,
        keys: data.len(),
        bytes,
    })
}

/// redb, used directly.
struct Raw(Database);

impl Raw {
    /// In a transaction of its own, as whoever wants the newest value must.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let found = table.get(key.as_bytes())?;
        Ok(found.map(|found| data::value_in(found.value()).to_vec()))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let end = data::end_of(prefix);
        let mut keys = Vec::new();
        for entry in table.range(prefix.as_bytes()..end.as_slice())? {
            keys.push(std::str::from_utf8(entry?.0.value())?.to_owned());
        }
        Ok(keys)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut record = Vec::new();
        data::record(key, value, Revision::new(1), &mut record);
        let write = self.0.begin_write()?;
        write.open_table(TABLE)?.insert(key.as_bytes(), record.as_slice())?;
        write.commit()?;
        Ok(())
    }

    /// Whether both sides hold the same, and as the same bytes.
    fn compare(&self, store: &RedbStorage, data: &Data) -> Result<()> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let mut bytes = Vec::new();
        for key in data.in_random_order().take(20_000) {
            let found = store.get(key)?.context("a key is missing")?;
            let record = table.get(key.as_bytes())?.context("a key is missing")?;
            data::record(key, found.as_bytes(), data::revision_in(record.value()), &mut bytes);
            ensure!(bytes == record.value(), "the two sides hold different records of {key}");
        }
        for component in 0..data.components() {
            let prefix = data::prefix(component);
            let same = store.list_keys(Some(&prefix))? == self.list(&prefix)?;
            ensure!(same, "the two sides list different keys of {prefix}");
        }
        Ok(())
    }
}
