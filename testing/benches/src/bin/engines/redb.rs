//! The redb store and redb, on a copy of the store's file.

use std::fs;
use std::path::Path;

use ::redb::{Database, ReadableDatabase as _, TableDefinition};
use anyhow::Result;
use benches::measure::{self, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Engine, Size, machine};
use storage_backends::RedbOptions;
use storage_core::Revision;

use crate::Figures;
use crate::compare::{Bench, Raw};
use crate::data::{self, Data};

const TABLE: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("data");

pub(crate) fn run(directory: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(size.pick(1_000_000, 100_000));
    let (path, copy) = (directory.join("store.redb"), directory.join("raw.redb"));
    data.load(&*Engine::Redb.open(&path, true)?)?;
    let bytes = machine::bytes_on_disk(&path)?;
    fs::copy(&path, &copy)?;
    machine::settle();
    let store = Engine::Redb.open(&path, true)?;
    let cache_bytes = RedbOptions::default().cache_bytes;
    let raw = Direct(Database::builder().set_cache_size(cache_bytes).open(&copy)?);
    let rounds = size.pick(11, 3);
    let bench = Bench { store: &*store, raw: &raw, data: &data, rounds };
    bench.check()?;
    let (get, listing) = (bench.get()?, bench.listing()?);
    let rows = [
        Row::new("get", get, Target::TimeAtMost(1.10)),
        Row::new("10,000 keys listed", listing, Target::TimeAtMost(1.10)),
        Row::new("synced set, writers: 1", bench.set(200, 1)?, Target::Time),
    ];
    bench.check()?;
    println!("{}", comparisons(["redb store", "redb"], &rows));

    let writers = measure::compare(
        Plan { rounds, operations: 800, turn: 800 },
        &mut |numbers| measure::together(16, numbers, &|number| bench.set_ours(number)),
        &mut |numbers| measure::together(1, numbers, &|number| bench.set_ours(number)),
    )?;
    let row = Row::new("redb store, synced set", writers, Target::RateAtLeast(4.0));
    println!("{}", comparisons(["16 writers", "1 writer"], &[row]));
    Ok(Figures {
        put_by_one: writers.second,
        put_by_sixteen: writers.first,
        get: get.first,
        listing: listing.first,
        keys: data.len(),
        bytes,
    })
}

struct Direct(Database);

impl Raw for Direct {
    /// In a transaction of its own, which is how to read the newest value.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        let found = table.get(key.as_bytes())?;
        Ok(found.map(|found| data::value_in(found.value()).to_vec()))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut record = Vec::new();
        data::record(key, value, Revision::new(1), &mut record);
        let write = self.0.begin_write()?;
        write.open_table(TABLE)?.insert(key.as_bytes(), record.as_slice())?;
        write.commit()?;
        Ok(())
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

    fn record(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        Ok(table.get(key.as_bytes())?.map(|found| found.value().to_vec()))
    }
}
