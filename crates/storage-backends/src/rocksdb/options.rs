//! Options for opening a store, and RocksDB's options that follow from them.

use ::rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, LogLevel, Options, WriteBufferManager,
};

use super::counter_format;
use storage_core::Durability;

/// The column family of the store's metadata.
pub(super) const META: &str = "meta";
/// The column family of usage counters.
pub(super) const USAGE_COUNTERS: &str = "ledgers";
/// Every column family; the first is that of the keys.
pub(super) const COLUMN_FAMILIES: [&str; 3] = [DEFAULT_COLUMN_FAMILY_NAME, META, USAGE_COUNTERS];

/// The write buffer of a column family other than that of the keys.
const SMALL_WRITE_BUFFER_BYTES: usize = 1 << 20;

/// How to open a [`RocksDbStorage`](crate::RocksDbStorage).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RocksDbOptions {
    /// What an acknowledged write survives: [`Durability::Sync`] or [`Durability::Os`].
    pub durability: Durability,
    /// The size of the cache for blocks, indexes and filters, in bytes. Default: 128 MiB.
    pub block_cache_bytes: usize,
    /// The memory for writes that are not in files yet, in bytes; it can briefly be
    /// exceeded. A store that was not closed cleanly reads up to as much when it is opened.
    /// Default: 64 MiB.
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
    /// Sets the durability.
    #[must_use]
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the size of the block cache.
    #[must_use]
    pub fn with_block_cache_bytes(mut self, bytes: usize) -> Self {
        self.block_cache_bytes = bytes;
        self
    }

    /// Sets the size of the write buffers.
    #[must_use]
    pub fn with_write_buffer_bytes(mut self, bytes: usize) -> Self {
        self.write_buffer_bytes = bytes;
        self
    }

    /// RocksDB's options for these column families.
    pub(super) fn engine(
        &self,
        names: &[&str],
        access: Access,
        recovery: Recovery,
    ) -> EngineOptions {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let mut options = Options::default();
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.write_buffer_bytes,
            false,
        ));
        // A column family with few writes would keep old logs.
        options
            .set_max_total_wal_size(self.write_buffer_bytes.max(SMALL_WRITE_BUFFER_BYTES) as u64);
        options.set_wal_recovery_mode(match recovery {
            Recovery::SyncedLog => DBRecoveryMode::TolerateCorruptedTailRecords,
            Recovery::UnsyncedLog => DBRecoveryMode::PointInTime,
        });
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        // All files are opened now and stay open: a reader keeps files that a writer
        // removes, and the opening detects damage to their footers.
        options.set_max_open_files(-1);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        match access {
            // It writes no log messages then.
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
        EngineOptions { options, families }
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
            // One half is flushed while the other fills.
            family.set_write_buffer_size((self.write_buffer_bytes / 2).max(64 << 10));
        } else {
            family.set_write_buffer_size(SMALL_WRITE_BUFFER_BYTES);
        }
        if name == USAGE_COUNTERS {
            family
                .set_merge_operator_associative(counter_format::MERGE_NAME, counter_format::merge);
        }
        family
    }
}

/// How to recover the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Every write was synced: the log may end with a truncated record, which was not
    /// acknowledged. Anything else is damage.
    SyncedLog,
    /// A power cut may have torn any part. Recover the writes before it.
    UnsyncedLog,
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Creates a database.
    Create,
}

/// RocksDB's own options.
pub(super) struct EngineOptions {
    pub(super) options: Options,
    pub(super) families: Vec<ColumnFamilyDescriptor>,
}
