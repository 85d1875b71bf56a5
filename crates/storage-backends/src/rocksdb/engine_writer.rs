//! Writes to RocksDB, and its state after a failed write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ::rocksdb::{WriteBatch, WriteOptions};
use storage_core::{Revision, StorageError};

use super::database::Database;
use super::{error, keys, meta};
use crate::lock::WriterLock;
use crate::revision_blocks::RevisionBlocks;

/// What one write puts into the database.
pub(super) enum Entry<'a> {
    Set(&'a str, &'a [u8]),
    Delete(&'a str),
    Batch(WriteBatch),
}

pub(super) struct EngineWriter {
    sync: bool,
    options: WriteOptions,
    revisions: RevisionBlocks,
    /// Whether a write failed and no later one succeeded yet.
    failing: AtomicBool,
    probing: Mutex<()>,
    /// Held during a flush; `true` after one failed.
    flushing: Mutex<bool>,
    // Dropped last.
    lock: WriterLock,
}

impl EngineWriter {
    pub(super) fn new(sync: bool, reserved_up_to: u64, lock: WriterLock) -> Self {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        Self {
            sync,
            options,
            revisions: RevisionBlocks::new(reserved_up_to),
            failing: AtomicBool::new(false),
            probing: Mutex::default(),
            flushing: Mutex::default(),
            lock,
        }
    }

    pub(super) fn is_sync(&self) -> bool {
        self.sync
    }

    /// Checks that the store is still where it was opened.
    pub(super) fn check_in_place(&self) -> Result<(), StorageError> {
        self.lock.check()
    }

    /// The next revision, if the store is still where it was opened.
    pub(super) fn next_revision(&self, database: &Database) -> Result<Revision, StorageError> {
        self.lock.check()?;
        self.revisions.next(|up_to| {
            meta::reserve(&database.db, &database.root, up_to)
                .inspect_err(|_| self.failing.store(true, Ordering::Release))
        })
    }

    /// Writes an entry with the store's durability. RocksDB groups the writes of several
    /// threads. After an error the write is indeterminate.
    pub(super) fn put(&self, database: &Database, entry: Entry<'_>) -> Result<(), StorageError> {
        let (db, options) = (&database.db, &self.options);
        let written = match entry {
            Entry::Set(key, record) => db.put_opt(keys::stored(key), record, options),
            Entry::Delete(key) => db.delete_opt(keys::stored(key), options),
            Entry::Batch(batch) => db.write_opt(batch, options),
        };
        written.map_err(|source| {
            self.failing.store(true, Ordering::Release);
            error::failed("write to", &database.root, &source)
        })
    }

    /// Returns RocksDB's error while it refuses writes after a failed one. So a later
    /// write fails before it starts, and its keys are not indeterminate.
    pub(super) fn check_working(&self, database: &Database) -> Result<(), StorageError> {
        if !self.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let _probing = self.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failing.load(Ordering::Acquire) {
            self.lock.check()?;
            meta::probe(&database.db, &database.root)?;
            self.failing.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Makes all earlier writes durable.
    pub(super) fn flush(&self, database: &Database) -> Result<(), StorageError> {
        if self.sync {
            return Ok(());
        }
        let mut failed = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(StorageError::Unavailable {
                key: None,
                detail: "an earlier flush failed, so it is unknown which writes are durable; \
                         reopen the store"
                    .to_owned(),
            });
        }
        // After a failed fsync, a kernel may report success for the next one.
        database.db.flush_wal(true).map_err(|source| {
            *failed = true;
            error::failed("flush", &database.root, &source)
        })?;
        self.lock.check_flushed()
    }
}
