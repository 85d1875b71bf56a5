//! What writing takes, and what becomes of it when the disk fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ::rocksdb::{WriteBatch, WriteOptions};
use storage_core::{Revision, StorageError};

use super::store::RocksDbStorage;
use super::usage::{GATES, Ledgers};
use super::{errors, keys, meta};
use crate::key_locks::{Cause, IndeterminateKeys, KEY_LOCKS, KeyLocks};
use crate::lock::WriterLock;
use crate::revision_blocks::RevisionBlocks;

/// What a store needs to write.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) sync: bool,
    pub(super) revisions: RevisionBlocks,
    pub(super) key_locks: KeyLocks,
    pub(super) gates: KeyLocks,
    pub(super) ledgers: Ledgers,
    pub(super) unsettled: IndeterminateKeys<FailedWrite>,
    /// Whether a write has failed since the last one that worked.
    suspect: AtomicBool,
    probing: Mutex<()>,
    /// Held for a whole flush; tells whether one has failed.
    flushing: Mutex<bool>,
    // The last field: dropped when everything else is.
    pub(super) lock: WriterLock,
}

/// A write that failed and may be there when the store is opened again.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedWrite;

impl Cause for FailedWrite {
    fn detail(&self) -> &'static str {
        "a write to it failed half-way; write or delete it again, or open the store anew"
    }
}

/// What a single write puts into the database.
pub(super) enum Entry<'a> {
    Set(&'a str, &'a [u8]),
    Delete(&'a str),
    Batch(WriteBatch),
}

impl Writer {
    pub(super) fn new(sync: bool, reserved: u64, ledgers: Ledgers, lock: WriterLock) -> Self {
        Self {
            sync,
            revisions: RevisionBlocks::new(reserved),
            key_locks: KeyLocks::new(KEY_LOCKS),
            gates: KeyLocks::new(GATES),
            ledgers,
            unsettled: IndeterminateKeys::default(),
            suspect: AtomicBool::new(false),
            probing: Mutex::default(),
            flushing: Mutex::default(),
            lock,
        }
    }
}

impl RocksDbStorage {
    pub(super) fn writer(&self) -> Result<&Writer, StorageError> {
        self.writer.as_ref().ok_or(StorageError::ReadOnly)
    }

    /// The revision of a write that comes next, if the store is still where it was
    /// opened.
    pub(super) fn next_revision(&self, writer: &Writer) -> Result<Revision, StorageError> {
        writer.lock.check()?;
        writer.revisions.next(|up_to| {
            meta::reserve(&self.db, &self.root, up_to)
                .inspect_err(|_| writer.suspect.store(true, Ordering::Release))
        })
    }

    /// Writes, durably as far as the store promises, together with whoever else
    /// writes now. After an error nobody knows whether it happened.
    pub(super) fn put_entry(&self, writer: &Writer, entry: Entry<'_>) -> Result<(), StorageError> {
        let options = &self.write_options;
        let written = match entry {
            Entry::Set(key, record) => self.db.put_opt(keys::stored(key), record, options),
            Entry::Delete(key) => self.db.delete_opt(keys::stored(key), options),
            Entry::Batch(batch) => self.db.write_opt(batch, options),
        };
        written.map_err(|error| {
            writer.suspect.store(true, Ordering::Release);
            errors::failed("write to", &self.root, &error)
        })
    }

    /// Refuses writes for as long as RocksDB does, after a write that failed.
    /// So they fail before they have begun, and their keys are not in doubt.
    pub(super) fn refuse_while_broken(&self, writer: &Writer) -> Result<(), StorageError> {
        if !writer.suspect.load(Ordering::Acquire) {
            return Ok(());
        }
        let _probing = writer.probing.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.suspect.load(Ordering::Acquire) {
            writer.lock.check()?;
            meta::probe(&self.db, &self.root)?;
            writer.suspect.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Makes everything durable that has been written.
    pub(super) fn make_durable(&self) -> Result<(), StorageError> {
        let Some(writer) = self.writer.as_ref().filter(|writer| !writer.sync) else {
            return Ok(());
        };
        let mut failed = writer.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if *failed {
            return Err(StorageError::Unavailable {
                key: None,
                detail:
                    "an earlier flush failed, so what is durable is not known; open the store anew"
                        .to_owned(),
            });
        }
        // A kernel may report a failed fsync once and call the next one done.
        self.db.flush_wal(true).map_err(|error| {
            *failed = true;
            errors::failed("flush", &self.root, &error)
        })?;
        writer.lock.check_flushed()
    }
}

/// How writes are to be made that are durable when they return, or not.
pub(super) fn write_options(sync: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync);
    options
}
