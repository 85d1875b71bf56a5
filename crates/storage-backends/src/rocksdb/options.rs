//! How to open the store, and what that means to RocksDB.

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, LogLevel, Options, WriteBufferManager,
};

use super::ledger;
use storage_core::Durability;

/// The column family of what the store says of itself.
pub(super) const META: &str = "meta";
/// The column family of what partitions use.
pub(super) const LEDGERS: &str = "ledgers";
/// Every column family; the first is that of the keys.
pub(super) const COLUMN_FAMILIES: [&str; 3] = [DEFAULT_COLUMN_FAMILY_NAME, META, LEDGERS];

/// What a column family other than that of the keys may hold in memory before
/// it is written out.
const SMALL_WRITE_BUFFER_BYTES: usize = 1 << 20;

/// How to open a [`RocksDbStorage`](crate::RocksDbStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RocksDbOptions {
    /// How much an acknowledged write survives.
    pub durability: Durability,
    /// What blocks read from disk, their indexes and filters may take in memory
    /// together, in bytes. Default: 128 MiB.
    pub block_cache_bytes: usize,
    /// What writes may take in memory before they are sorted into files, in bytes;
    /// for a moment it can be more. As much again may have to be read when a store
    /// is opened that was not closed. Default: 64 MiB.
    pub write_buffer_bytes: usize,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            block_cache_bytes: 128 << 20,
            write_buffer_bytes: 64 << 20,
        }
    }
}

impl RocksDbOptions {
    /// The same with another durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The same with another size of the block cache.
    #[must_use]
    pub fn with_block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// The same with another size of the write buffers.
    #[must_use]
    pub fn with_write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes;
        self
    }

    /// What RocksDB shall do, for the column families of these names.
    pub(super) fn engine(&self, names: &[&str], access: Access) -> Engine {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let mut options = Options::default();
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.write_buffer_bytes,
            false,
        ));
        // Column families that are seldom written to would keep old logs.
        options
            .set_max_total_wal_size(self.write_buffer_bytes.max(SMALL_WRITE_BUFFER_BYTES) as u64);
        // What a power cut tore off the end of the log was never acknowledged.
        // Damage before the end is found by `log`, which RocksDB would take for
        // the end.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        // All files are opened at once and stay open: a reader keeps those that a
        // writer beside it removes, and damage to their ends shows at the opening.
        options.set_max_open_files(-1);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        match access {
            // It writes no messages then.
            Access::Read => {}
            Access::Write => {
                options.set_log_level(LogLevel::Warn);
                options.set_max_log_file_size(1 << 20);
                options.set_keep_log_file_num(4);
            }
            Access::Create => {
                options.set_log_level(LogLevel::Warn);
                options.create_if_missing(true);
                options.create_missing_column_families(true);
            }
        }
        let families = names
            .iter()
            .map(|name| ColumnFamilyDescriptor::new(*name, self.family(name, &cache)))
            .collect();
        Engine { options, families }
    }

    fn family(&self, name: &str, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(10.0, false);
        let mut family = Options::default();
        family.set_block_based_table_factory(&table);
        family.set_compression_type(DBCompressionType::Lz4);
        if name == DEFAULT_COLUMN_FAMILY_NAME {
            // One half is written out while the other fills.
            family.set_write_buffer_size((self.write_buffer_bytes / 2).max(64 << 10));
        } else {
            family.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
        }
        if name == LEDGERS {
            family.set_merge_operator_associative(ledger::MERGE_NAME, ledger::merge);
        }
        family
    }
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// To write into a new one.
    Create,
}

/// Options in RocksDB's terms.
pub(super) struct Engine {
    pub(super) options: Options,
    pub(super) families: Vec<ColumnFamilyDescriptor>,
}
