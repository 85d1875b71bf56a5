//! RocksDB, used directly, with the options of the store.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    FlushOptions, LogLevel, Options, ReadOptions, WriteBatch, WriteBufferManager, WriteOptions,
};
use storage_backends::{Durability, RocksDbOptions, RocksDbStorage};
use storage_core::{ComponentStorage, Revision, StorageValue};

use crate::data::{self, Data};

/// The column families of a store; the first is that of the keys.
const FAMILIES: [&str; 3] = ["default", "meta", "ledgers"];

const SMALL_WRITE_BUFFER_BYTES: usize = 1 << 20;

/// RocksDB, used directly.
pub(crate) struct Raw {
    db: DB,
    read: ReadOptions,
    write: WriteOptions,
    revision: AtomicU64,
}

impl Raw {
    /// Opens a copy of a store's folder as the store itself does.
    pub(crate) fn open(folder: &Path, store: &RocksDbOptions) -> Result<Self> {
        let mut options = Options::default();
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            store.write_buffer_bytes,
            false,
        ));
        options.set_max_total_wal_size(store.write_buffer_bytes as u64);
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        options.set_max_open_files(-1);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_log_level(LogLevel::Warn);
        options.set_max_log_file_size(1 << 20);
        options.set_keep_log_file_num(4);
        let cache = Cache::new_lru_cache(store.block_cache_bytes);
        let families = FAMILIES.map(|name| {
            let mut table = BlockBasedOptions::default();
            table.set_block_cache(&cache);
            table.set_cache_index_and_filter_blocks(true);
            table.set_cache_index_and_filter_blocks_with_high_priority(true);
            table.set_pin_l0_filter_and_index_blocks_in_cache(true);
            table.set_bloom_filter(10.0, false);
            let mut family = Options::default();
            family.set_block_based_table_factory(&table);
            family.set_compression_type(DBCompressionType::Lz4);
            family.set_write_buffer_size(match name {
                "default" => store.write_buffer_bytes / 2,
                _ => SMALL_WRITE_BUFFER_BYTES,
            });
            ColumnFamilyDescriptor::new(name, family)
        });
        let db = DB::open_cf_descriptors(&options, folder, families)?;
        let mut write = WriteOptions::default();
        write.set_sync(store.durability == Durability::Sync);
        // Above what the store has given, so that records differ from its own.
        let revision = AtomicU64::new(1 << 40);
        Ok(Self { db, read: ReadOptions::default(), write, revision })
    }

    /// Writes what is in memory to files, as the store does when it is dropped.
    pub(crate) fn close(self) -> Result<()> {
        let families: Vec<_> = FAMILIES.iter().filter_map(|name| self.db.cf_handle(name)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        Ok(self.db.flush_cfs_opt(&families, &options)?)
    }

    fn next_revision(&self) -> Revision {
        Revision::new(self.revision.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let found = self.db.get_pinned_opt(key, &self.read)?;
        Ok(found.map(|record| data::value_in(&record).to_vec()))
    }

    pub(crate) fn len_of_value(&self, key: &str) -> Result<usize> {
        let found = self.db.get_pinned_opt(key, &self.read)?;
        Ok(found.map_or(0, |record| data::value_in(&record).len()))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let mut record = Vec::new();
        data::record(key, value, self.next_revision(), &mut record);
        Ok(self.db.put_opt(key, &record, &self.write)?)
    }

    /// Writes several keys at once.
    pub(crate) fn set_many<'a>(
        &self,
        pairs: impl Iterator<Item = (&'a str, StorageValue)>,
    ) -> Result<()> {
        let revision = self.next_revision();
        let mut batch = WriteBatch::default();
        let mut record = Vec::new();
        for (key, value) in pairs {
            data::record(key, value.as_bytes(), revision, &mut record);
            batch.put(key, &record);
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    pub(crate) fn list(&self, prefix: &str) -> Result<Vec<String>> {
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

    /// Whether both sides hold the same, and as the same bytes.
    pub(crate) fn compare(&self, store: &RocksDbStorage, data: &Data) -> Result<()> {
        let mut bytes = Vec::new();
        for key in data.in_random_order().take(20_000) {
            let found = store.get(key)?.context("a key is missing")?;
            let record = self.db.get_pinned_opt(key, &self.read)?.context("a key is missing")?;
            data::record(key, found.as_bytes(), data::revision_in(&record), &mut bytes);
            ensure!(*bytes == *record, "the two sides hold different records of {key}");
        }
        for component in 0..data.components() {
            let prefix = data::prefix(component);
            let same = store.list_keys(Some(&prefix))? == self.list(&prefix)?;
            ensure!(same, "the two sides list different keys of {prefix}");
        }
        Ok(())
    }
}

/// Compares the options that RocksDB itself says both sides have.
pub(crate) fn compare_options(store: &Path, raw: &Path) -> Result<()> {
    let (ours, theirs) = (options_of(store)?, options_of(raw)?);
    ensure!(ours.len() > 100, "the options of {} have no sections", store.display());
    for (one, other) in ours.iter().zip(&theirs) {
        ensure!(one == other, "the two sides have different options: {one} and {other}");
    }
    ensure!(ours.len() == theirs.len(), "the two sides have different numbers of options");
    Ok(())
}

/// The options of a database and of the column family of its keys, a line each.
fn options_of(folder: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(newest_options(folder)?)?;
    let mut wanted = false;
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            wanted = line == "[DBOptions]" || line.contains("\"default\"");
        } else if wanted {
            lines.push(line.replace(&folder.display().to_string(), ""));
        }
    }
    Ok(lines)
}

fn newest_options(folder: &Path) -> Result<PathBuf> {
    let mut files = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.starts_with("OPTIONS-") {
            // The numbers in the names have leading zeros.
            files.push(name);
        }
    }
    match files.into_iter().max() {
        Some(newest) => Ok(folder.join(newest)),
        None => bail!("{} has no file of options", folder.display()),
    }
}
