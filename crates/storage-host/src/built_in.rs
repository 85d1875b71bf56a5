//! The schemes of this crate, each behind the feature of its name.

use std::sync::Arc;

use crate::scheme::Scheme;

/// The names of all schemes, compiled in or not, and the feature of each.
pub(crate) const FEATURES: [(&str, &str); 9] = [
    ("file", "file"),
    ("redb", "redb"),
    ("rocksdb", "rocksdb"),
    ("postgres", "postgres"),
    ("redis", "redis"),
    ("rediss", "redis"),
    ("redis+cluster", "redis"),
    ("redis+sentinel", "redis"),
    ("memory", "memory"),
];

/// The schemes that are compiled in.
pub(crate) fn schemes() -> Vec<Arc<dyn Scheme>> {
    vec![
        #[cfg(feature = "file")]
        Arc::new(file::File),
        #[cfg(feature = "redb")]
        Arc::new(redb::Redb),
        #[cfg(feature = "rocksdb")]
        Arc::new(rocksdb::RocksDb),
        #[cfg(feature = "postgres")]
        Arc::new(postgres::Postgres),
        #[cfg(feature = "redis")]
        Arc::new(redis::Redis::Single),
        #[cfg(feature = "redis")]
        Arc::new(redis::Redis::SingleWithTls),
        #[cfg(feature = "redis")]
        Arc::new(redis::Redis::Cluster),
        #[cfg(feature = "redis")]
        Arc::new(redis::Redis::Sentinel),
        #[cfg(feature = "memory")]
        Arc::new(memory::Memory),
    ]
}

#[cfg(any(feature = "redb", feature = "rocksdb"))]
fn missing(path: &std::path::Path) -> storage_core::StorageError {
    storage_core::StorageError::IoError(format!(
        "{} does not exist; the first write creates a store",
        path.display()
    ))
}

#[cfg(any(feature = "file", feature = "postgres", feature = "rocksdb"))]
fn sync_or_os(location: &crate::scheme::Location) -> storage_core::Durability {
    use storage_core::Durability;
    if location.setting("durability") == Some("os") { Durability::Os } else { Durability::Sync }
}

#[cfg(feature = "file")]
pub(crate) mod file {
    use std::sync::Arc;

    use storage_backends::{FileOptions, FileStorage};
    use storage_core::{Problem, StorageError, Store, Verified};

    use crate::scheme::{Location, Mode, Needs, Scheme, Setting};

    pub(crate) struct File;

    impl Scheme for File {
        fn name(&self) -> &'static str {
            "file"
        }

        fn settings(&self) -> &'static [Setting] {
            const SETTINGS: &[Setting] =
                &[Setting::durability(&["sync", "os"]), Setting::bytes("index_budget_bytes")];
            SETTINGS
        }

        fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
            let mut options = FileOptions::default().with_durability(super::sync_or_os(location));
            if let Some(bytes) = location.bytes("index_budget_bytes") {
                options = options.with_index_budget_bytes(bytes);
            }
            let path = location.path();
            if mode == Mode::ReadOnly {
                return Ok(Arc::new(FileStorage::open_read_only(path, options)?));
            }
            if mode == Mode::ReadWriteExisting {
                // Creates nothing, and fails if the store is missing.
                FileStorage::open_read_only(path, options.clone())?;
            }
            Ok(Arc::new(FileStorage::open(path, options)?))
        }

        fn verify(
            &self,
            location: &Location,
            report: &mut dyn FnMut(Problem),
        ) -> Result<Verified, StorageError> {
            FileStorage::verify(location.path(), report)
        }

        fn needs(&self) -> Needs {
            Needs { file_per_key: true, file_name_bytes: 240, ..Needs::default() }
        }
    }
}

#[cfg(feature = "redb")]
mod redb {
    use std::sync::Arc;

    use storage_backends::{RedbOptions, RedbStorage};
    use storage_core::{Durability, Problem, StorageError, Store, Verified};

    use crate::scheme::{Location, Mode, Scheme, Setting};

    pub(super) struct Redb;

    impl Scheme for Redb {
        fn name(&self) -> &'static str {
            "redb"
        }

        fn settings(&self) -> &'static [Setting] {
            const SETTINGS: &[Setting] =
                &[Setting::durability(&["sync", "relaxed"]), Setting::bytes("cache_bytes")];
            SETTINGS
        }

        fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
            let mut options = RedbOptions::default();
            if location.setting("durability") == Some("relaxed") {
                options = options.with_durability(Durability::Relaxed);
            }
            if let Some(bytes) = location.bytes("cache_bytes") {
                options = options.with_cache_bytes(bytes);
            }
            let path = location.path();
            match mode {
                Mode::ReadOnly => Ok(Arc::new(RedbStorage::open_read_only(path, options)?)),
                // An empty file is not a store yet.
                Mode::ReadWriteExisting if !path.metadata().is_ok_and(|found| found.len() > 0) => {
                    // Creates nothing, and its error says what is missing.
                    RedbStorage::open_read_only(path, options)?;
                    Err(super::missing(path))
                }
                _ => Ok(Arc::new(RedbStorage::open(path, options)?)),
            }
        }

        fn verify(
            &self,
            location: &Location,
            report: &mut dyn FnMut(Problem),
        ) -> Result<Verified, StorageError> {
            RedbStorage::verify(location.path(), report)
        }
    }
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use std::sync::Arc;

    use storage_backends::{RocksDbOptions, RocksDbStorage};
    use storage_core::{Problem, StorageError, Store, Verified};

    use crate::scheme::{Location, Mode, Needs, Scheme, Setting};

    pub(super) struct RocksDb;

    impl Scheme for RocksDb {
        fn name(&self) -> &'static str {
            "rocksdb"
        }

        fn settings(&self) -> &'static [Setting] {
            const SETTINGS: &[Setting] = &[
                Setting::durability(&["sync", "os"]),
                Setting::bytes("block_cache_bytes"),
                Setting::bytes("write_buffer_bytes"),
            ];
            SETTINGS
        }

        fn open(&self, location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
            let mut options =
                RocksDbOptions::default().with_durability(super::sync_or_os(location));
            if let Some(bytes) = location.bytes("block_cache_bytes") {
                options = options.with_block_cache_bytes(bytes);
            }
            if let Some(bytes) = location.bytes("write_buffer_bytes") {
                options = options.with_write_buffer_bytes(bytes);
            }
            let path = location.path();
            match mode {
                Mode::ReadOnly => Ok(Arc::new(RocksDbStorage::open_read_only(path, options)?)),
                Mode::ReadWriteExisting if !path.join("CURRENT").exists() => {
                    // Creates nothing, and its error says what is there instead.
                    RocksDbStorage::open_read_only(path, options)?;
                    Err(super::missing(path))
                }
                _ => Ok(Arc::new(RocksDbStorage::open(path, options)?)),
            }
        }

        fn verify(
            &self,
            location: &Location,
            report: &mut dyn FnMut(Problem),
        ) -> Result<Verified, StorageError> {
            RocksDbStorage::verify(location.path(), report)
        }

        fn needs(&self) -> Needs {
            // It keeps a file open for each of its tables.
            Needs { open_files: 4_096, ..Needs::default() }
        }
    }
}

#[cfg(feature = "postgres")]
#[path = "postgres_scheme.rs"]
mod postgres;

#[cfg(feature = "redis")]
#[path = "redis_scheme.rs"]
mod redis;

#[cfg(feature = "memory")]
mod memory {
    use std::sync::Arc;

    use storage_backends::MemoryStorage;
    use storage_core::{StorageError, Store};

    use crate::scheme::{Location, Mode, Scheme};

    pub(super) struct Memory;

    impl Scheme for Memory {
        fn name(&self) -> &'static str {
            "memory"
        }

        fn has_path(&self) -> bool {
            false
        }

        fn is_persistent(&self) -> bool {
            false
        }

        fn open(&self, _location: &Location, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
            match mode {
                Mode::ReadWrite => Ok(Arc::new(MemoryStorage::new())),
                Mode::ReadWriteExisting | Mode::ReadOnly => Err(StorageError::Unsupported(
                    "a memory: store starts empty, and its data is lost when the process ends, so \
                     there is nothing to open; use a persistent store, such as redb:PATH"
                        .into(),
                )),
            }
        }
    }
}
