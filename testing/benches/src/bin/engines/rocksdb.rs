//! The RocksDB store and RocksDB, on a copy of the store's directory and with the
//! options that the store wrote to it.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ::rocksdb::{
    Cache, DB, Env, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use anyhow::Result;
use benches::measure::{self, Compared, Plan};
use benches::report::{Row, Target, comparisons};
use benches::{Engine, Size, machine};
use storage_backends::RocksDbOptions;
use storage_core::{Budget, Commit, Revision, StorageValue};

use crate::Figures;
use crate::compare::{Bench, Raw};
use crate::data::{self, Data};

const KEYS_PER_COMMIT: usize = 100;

/// A quota that is never reached.
const QUOTA: Budget = Budget { max_bytes: 1 << 50, max_keys: 1 << 50 };

pub(crate) fn run(directory: &Path, size: Size) -> Result<Figures> {
    let data = Data::new(size.pick(1_000_000, 100_000));
    let (path, copy) = (directory.join("store"), directory.join("raw"));
    data.load(&*Engine::Rocksdb.open(&path, false)?)?;
    let bytes = machine::bytes_on_disk(&path)?;
    fs::create_dir(&copy)?;
    for file in fs::read_dir(&path)? {
        let file = file?;
        fs::copy(file.path(), copy.join(file.file_name()))?;
    }
    machine::settle();
    let rounds = size.pick(27, 3);
    let mut rows = Vec::new();

    let (store, raw) = (Engine::Rocksdb.open(&path, false)?, Direct::open(&copy, false)?);
    let bench = Bench { store: &*store, raw: &raw, data: &data, rounds };
    bench.check()?;
    let (get, listing) = (bench.get()?, bench.listing()?);
    rows.push(Row::new("get", get, Target::TimeAtMost(1.10)));
    rows.push(Row::new("10,000 keys listed", listing, Target::TimeAtMost(1.25)));
    rows.push(Row::new("set", bench.set(40_000, 1_000)?, Target::TimeAtMost(1.10)));
    rows.push(Row::new("70 % get, 30 % set", mix(&bench)?, Target::TimeAtMost(1.10)));
    rows.push(Row::new("commit of 100 keys", commit(&bench)?, Target::TimeAtMost(1.10)));
    rows.push(Row::new("set with a quota", set_with_quota(&bench)?, Target::TimeAtMost(1.15)));
    bench.check()?;
    drop((store, raw));

    let (store, raw) = (Engine::Rocksdb.open(&path, true)?, Direct::open(&copy, true)?);
    let bench = Bench { store: &*store, raw: &raw, data: &data, rounds };
    let by_one = set_from(&bench, 1, 300)?;
    let by_sixteen = set_from(&bench, 16, 3_000)?;
    rows.push(Row::new("synced set, writers: 1", by_one, Target::Rate));
    rows.push(Row::new("synced set, writers: 16", by_sixteen, Target::RateAtLeast(0.9)));
    bench.check()?;
    println!("{}", comparisons(["RocksDB store", "RocksDB"], &rows));
    Ok(Figures {
        put_by_one: by_one.first,
        put_by_sixteen: by_sixteen.first,
        get: get.first,
        listing: listing.first,
        keys: data.len(),
        bytes,
    })
}

/// Sets keys from several threads.
fn set_from(bench: &Bench<'_, Direct>, writers: usize, operations: usize) -> Result<Compared> {
    measure::compare(
        Plan { rounds: bench.rounds, operations, turn: operations },
        &mut |numbers| measure::together(writers, numbers, &|number| bench.set_ours(number)),
        &mut |numbers| measure::together(writers, numbers, &|number| bench.set_raw(number)),
    )
}

fn mix(bench: &Bench<'_, Direct>) -> Result<Compared> {
    // Not the random numbers that choose the keys.
    let sets = |number: usize| data::mixed(!(number as u64)) % 10 < 3;
    bench.compare(
        40_000,
        1_000,
        |number| if sets(number) { bench.set_ours(number) } else { bench.get_ours(number) },
        |number| if sets(number) { bench.set_raw(number) } else { bench.get_raw(number) },
    )
}

/// Includes building the commit from its keys and values.
fn commit(bench: &Bench<'_, Direct>) -> Result<Compared> {
    let pairs = |number: usize| {
        let numbers = number * KEYS_PER_COMMIT..(number + 1) * KEYS_PER_COMMIT;
        numbers.map(|number| (bench.data.key(number), bench.data.value_of_key(number)))
    };
    bench.compare(
        400,
        20,
        |number| {
            let set = |commit: Commit, (key, value)| commit.set(key, value);
            bench.store.commit(pairs(number).fold(Commit::new(), set))?;
            Ok(())
        },
        |number| bench.raw.set_many(pairs(number)),
    )
}

/// The raw side reads the old value, as an exact quota requires.
fn set_with_quota(bench: &Bench<'_, Direct>) -> Result<Compared> {
    // The first budget of a component counts its keys.
    for component in 0..bench.data.components() {
        let key = format!("{}none", data::prefix(component));
        bench.store.commit(Commit::new().delete(key).with_budget(QUOTA))?;
    }
    let used = Cell::new(0);
    bench.compare(
        40_000,
        1_000,
        |number| {
            let (key, value) = (bench.data.key(number), bench.data.value_of_key(number));
            bench.store.commit(Commit::new().set(key, value).with_budget(QUOTA))?;
            Ok(())
        },
        |number| {
            let (key, value) = (bench.data.key(number), bench.data.value_of_key(number));
            let old = bench.raw.len_of_value(key)?;
            used.set(used.get() + value.len() as i64 - old as i64);
            bench.raw.set(key, value.as_bytes())
        },
    )
}

struct Direct {
    db: DB,
    read: ReadOptions,
    write: WriteOptions,
    revision: AtomicU64,
}

impl Direct {
    /// Opens a copy of a store with the store's own options.
    fn open(directory: &Path, sync: bool) -> Result<Self> {
        let store = RocksDbOptions::default();
        // The file of options has neither the cache nor the write buffer manager.
        let cache = Cache::new_lru_cache(store.block_cache_bytes);
        let (mut options, families) = Options::load_latest(directory, Env::new()?, false, cache)?;
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            store.write_buffer_bytes,
            false,
        ));
        let db = DB::open_cf_descriptors(&options, directory, families)?;
        let mut write = WriteOptions::default();
        write.set_sync(sync);
        // Above the revisions of the store, so that the records differ.
        Ok(Self { db, read: ReadOptions::default(), write, revision: AtomicU64::new(1 << 40) })
    }

    fn next_revision(&self) -> Revision {
        Revision::new(self.revision.fetch_add(1, Ordering::Relaxed))
    }

    fn len_of_value(&self, key: &str) -> Result<usize> {
        let found = self.db.get_pinned_opt(key, &self.read)?;
        Ok(found.map_or(0, |record| data::value_in(&record).len()))
    }

    fn set_many<'a>(&self, pairs: impl Iterator<Item = (&'a str, StorageValue)>) -> Result<()> {
        let revision = self.next_revision();
        let mut batch = WriteBatch::default();
        let mut record = Vec::new();
        for (key, value) in pairs {
            data::record(key, value.as_bytes(), revision, &mut record);
            batch.put(key, &record);
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }
}

impl Raw for Direct {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let found = self.db.get_pinned_opt(key, &self.read)?;
        Ok(found.map(|record| data::value_in(&record).to_vec()))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut record = Vec::new();
        data::record(key, value, self.next_revision(), &mut record);
        Ok(self.db.put_opt(key, &record, &self.write)?)
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(data::end_of(prefix));
        let mut iterator = self.db.raw_iterator_opt(options);
        iterator.seek(prefix);
        let mut keys = Vec::new();
        while let Some(key) = iterator.key() {
            keys.push(std::str::from_utf8(key)?.to_owned());
            iterator.next();
        }
        iterator.status()?;
        Ok(keys)
    }

    fn record(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get_opt(key, &self.read)?)
    }
}
