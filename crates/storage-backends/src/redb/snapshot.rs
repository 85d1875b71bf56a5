//! The last durable state of a store whose engine has stopped.
//!
//! After an I/O error the engine answers nothing that it does not have in
//! memory. The state before the failed commit is on the disk nevertheless: the
//! engine never writes over pages of the newest durable commit. So a second,
//! reading engine is put on the file, which is shown the last durable header in
//! place of the one that the file may have.
//!
//! That engine is opened as a reader beside a writer in another process, which
//! trusts the header and needs no recovery.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use ::redb::{BackendError, ConcurrencyMode, ReadOnlyDatabase, StorageBackend};

use super::disk::{Disk, DurableState};
use super::fail::Fail;

/// The byte of the header that says, among other things, that the file was not
/// closed.
const FLAGS_AT: usize = 9;
const NOT_CLOSED: u8 = 2;

/// Reads the last durable state until it is revoked.
pub(super) struct Snapshot {
    pub(super) db: ReadOnlyDatabase,
    gate: Arc<RwLock<bool>>,
}

impl Snapshot {
    pub(super) fn open(
        disk: &Arc<Disk>,
        durable: DurableState,
        cache_bytes: usize,
    ) -> Result<Self, Fail> {
        let mut header = durable.header;
        if let Some(flags) = header.get_mut(FLAGS_AT) {
            *flags &= !NOT_CLOSED;
        }
        let gate = Arc::new(RwLock::new(true));
        let view =
            View { disk: Arc::clone(disk), header, len: durable.len, gate: Arc::clone(&gate) };
        let db = ::redb::Builder::new()
            .set_cache_size(cache_bytes)
            .set_concurrency_mode(ConcurrencyMode::SingleWriter)
            .open_read_only_with_backend(view)?;
        Ok(Self { db, gate })
    }

    /// Ends every read of this state, now and later: its pages are about to be
    /// written over.
    pub(super) fn revoke(&self) {
        *self.gate.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// The state that was being read is gone; there is a newer one.
#[derive(Debug)]
pub(super) struct Revoked;

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state that was read has been written over; read again")
    }
}

impl Error for Revoked {}

#[derive(Debug)]
struct View {
    disk: Arc<Disk>,
    header: Vec<u8>,
    len: u64,
    gate: Arc<RwLock<bool>>,
}

impl StorageBackend for View {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return Err(io::Error::other(Revoked));
        }
        if offset != 0 {
            return self.disk.read(offset, out);
        }
        let header = self.header.get(..out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(header);
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(ErrorKind::ReadOnlyFilesystem.into())
    }

    // The store's own lock on the file keeps every other process away: the
    // engine's locks between processes are granted without looking.

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
