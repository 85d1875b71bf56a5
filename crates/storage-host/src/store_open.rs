//! Opening and checking the store that a [`StoreUrl`] names.

use std::sync::Arc;

use storage_backends::{Problem, Verified};
use storage_core::{StorageError, Store};

use crate::store_url::{Kind, Mode, StoreUrl};

type Opened = Result<Arc<dyn Store>, StorageError>;

impl StoreUrl {
    /// Opens the store.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it open for writing (to
    /// read, a `redb:` store must not be open for writing either),
    /// [`StorageError::Unsupported`] for one of another format or, with
    /// [`Mode::ReadOnly`] or [`Mode::ReadWriteExisting`], for `memory:`, in which
    /// nothing can be before it is opened; [`StorageError::IoError`] if it is
    /// missing and not to be created, or cannot be read or created.
    pub fn open(&self, mode: Mode) -> Result<Arc<dyn Store>, StorageError> {
        match self.scheme.kind {
            Kind::File => self.open_file(mode),
            Kind::Redb => self.open_redb(mode),
            Kind::RocksDb => self.open_rocksdb(mode),
            Kind::Memory => self.open_memory(mode),
        }
    }

    /// Reads everything in the store and calls `report` with whatever is not as it
    /// should be. Changes nothing.
    ///
    /// # Errors
    /// What keeps the store from being looked at, as in [`open`](Self::open) with
    /// [`Mode::ReadOnly`]; damage is a [`Problem`] and no error.
    pub fn verify(&self, report: &mut dyn FnMut(Problem)) -> Result<Verified, StorageError> {
        match self.scheme.kind {
            #[cfg(feature = "file")]
            Kind::File => storage_backends::FileStorage::verify(&self.path, report),
            #[cfg(feature = "redb")]
            Kind::Redb => storage_backends::RedbStorage::verify(&self.path, report),
            #[cfg(feature = "rocksdb")]
            Kind::RocksDb => storage_backends::RocksDbStorage::verify(&self.path, report),
            #[cfg(feature = "memory")]
            Kind::Memory => Err(nothing_to_open()),
            #[cfg(not(all(
                feature = "file",
                feature = "memory",
                feature = "redb",
                feature = "rocksdb"
            )))]
            _ => {
                let _ = report;
                self.not_compiled_in()
            }
        }
    }

    #[cfg(not(all(feature = "file", feature = "memory", feature = "redb", feature = "rocksdb")))]
    fn not_compiled_in<T>(&self) -> Result<T, StorageError> {
        let name = self.scheme.name;
        Err(StorageError::Unsupported(format!("{name}: stores need the feature {name:?}")))
    }

    // Parsing refuses what is not compiled in; this is for the compiler.
    #[cfg(not(feature = "file"))]
    fn open_file(&self, _mode: Mode) -> Opened {
        self.not_compiled_in()
    }

    #[cfg(feature = "file")]
    fn open_file(&self, mode: Mode) -> Opened {
        use storage_backends::{FileOptions, FileStorage};

        let mut options = FileOptions::default().with_durability(self.sync_or_os());
        if let Some(bytes) = self.settings.size("index_budget_bytes") {
            options = options.with_index_budget_bytes(bytes);
        }
        if mode == Mode::ReadOnly {
            return Ok(Arc::new(FileStorage::open_read_only(&self.path, options)?));
        }
        if mode == Mode::ReadWriteExisting {
            // Creates nothing, and fails if there is nothing.
            FileStorage::open_read_only(&self.path, options.clone())?;
        }
        Ok(Arc::new(FileStorage::open(&self.path, options)?))
    }

    // Parsing refuses what is not compiled in; this is for the compiler.
    #[cfg(not(feature = "redb"))]
    fn open_redb(&self, _mode: Mode) -> Opened {
        self.not_compiled_in()
    }

    #[cfg(feature = "redb")]
    fn open_redb(&self, mode: Mode) -> Opened {
        use storage_backends::{Durability, RedbOptions, RedbStorage};

        let relaxed = self.settings.is_relaxed();
        let durability = if relaxed { Durability::Interval } else { Durability::Sync };
        let mut options = RedbOptions::default().with_durability(durability);
        if let Some(bytes) = self.settings.size("cache_bytes") {
            options = options.with_cache_bytes(bytes);
        }
        match mode {
            Mode::ReadOnly => Ok(Arc::new(RedbStorage::open_read_only(&self.path, options)?)),
            Mode::ReadWriteExisting if self.has_no_bytes() => {
                // Creates nothing, and says what is missing.
                RedbStorage::open_read_only(&self.path, options)?;
                Err(self.missing())
            }
            _ => Ok(Arc::new(RedbStorage::open(&self.path, options)?)),
        }
    }

    // Parsing refuses what is not compiled in; this is for the compiler.
    #[cfg(not(feature = "rocksdb"))]
    fn open_rocksdb(&self, _mode: Mode) -> Opened {
        self.not_compiled_in()
    }

    #[cfg(feature = "rocksdb")]
    fn open_rocksdb(&self, mode: Mode) -> Opened {
        use storage_backends::{RocksDbOptions, RocksDbStorage};

        let mut options = RocksDbOptions::default().with_durability(self.sync_or_os());
        if let Some(bytes) = self.settings.size("block_cache_bytes") {
            options = options.with_block_cache_bytes(bytes);
        }
        if let Some(bytes) = self.settings.size("write_buffer_bytes") {
            options = options.with_write_buffer_bytes(bytes);
        }
        match mode {
            Mode::ReadOnly => Ok(Arc::new(RocksDbStorage::open_read_only(&self.path, options)?)),
            // What is there but no store is refused by the store itself.
            Mode::ReadWriteExisting if !self.path.join("CURRENT").exists() => {
                RocksDbStorage::open_read_only(&self.path, options)?;
                Err(self.missing())
            }
            _ => Ok(Arc::new(RocksDbStorage::open(&self.path, options)?)),
        }
    }

    #[cfg(not(feature = "memory"))]
    fn open_memory(&self, _mode: Mode) -> Opened {
        self.not_compiled_in()
    }

    #[cfg(feature = "memory")]
    fn open_memory(&self, mode: Mode) -> Opened {
        match mode {
            Mode::ReadWrite => Ok(Arc::new(storage_backends::MemoryStorage::new())),
            Mode::ReadWriteExisting | Mode::ReadOnly => Err(nothing_to_open()),
        }
    }

    #[cfg(any(feature = "file", feature = "rocksdb"))]
    fn sync_or_os(&self) -> storage_backends::Durability {
        use storage_backends::Durability;
        if self.settings.is_relaxed() { Durability::Os } else { Durability::Sync }
    }

    /// Whether there is no file, or an empty one, which is no store yet.
    #[cfg(feature = "redb")]
    fn has_no_bytes(&self) -> bool {
        !self.path.metadata().is_ok_and(|found| found.len() > 0)
    }

    #[cfg(any(feature = "redb", feature = "rocksdb"))]
    fn missing(&self) -> StorageError {
        StorageError::IoError(format!(
            "{} does not exist; a store is made when something is first written to it",
            self.path.display()
        ))
    }
}

#[cfg(feature = "memory")]
fn nothing_to_open() -> StorageError {
    StorageError::Unsupported(
        "a memory: store begins empty in each process and ends with it, so there is nothing to \
         open; name a store that lasts, such as file:PATH"
            .into(),
    )
}

#[cfg(test)]
#[cfg(feature = "memory")]
mod tests {
    use super::*;

    #[test]
    fn memory_has_nothing_to_read_before_it_is_written() {
        let url: StoreUrl = "memory:".parse().unwrap();
        assert_eq!(url.to_string(), "memory:");
        assert!(url.open(Mode::ReadWrite).is_ok());
        assert!(matches!(url.open(Mode::ReadOnly), Err(StorageError::Unsupported(_))));
        assert!(matches!(url.open(Mode::ReadWriteExisting), Err(StorageError::Unsupported(_))));
    }
}
