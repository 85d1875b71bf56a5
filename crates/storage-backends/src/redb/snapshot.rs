//! Reads the last durable state of a store whose engine stopped.
//!
//! After an I/O error the engine returns only what it has in memory. The state before
//! the failed commit is still on disk, because the engine never overwrites pages of the
//! newest durable commit. So a second, reading engine opens the file with the last
//! durable header in place of the header in the file.
//!
//! It opens the file like a reader next to a writer in another process: it trusts the
//! header and runs no recovery, which would read the whole file.

use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use ::redb::{BackendError, ConcurrencyMode, ReadOnlyDatabase, StorageBackend};

use super::error::{Error, Revoked};
use super::file_backend::{DurableState, FileBackend};

/// The header byte whose bit 2 asks for a recovery. A snapshot needs none, and a reader
/// cannot run one.
const FLAGS_OFFSET: usize = 9;
const RECOVERY_REQUIRED: u8 = 2;

/// The last durable state, readable until it is revoked.
pub(super) struct Snapshot {
    pub(super) db: ReadOnlyDatabase,
    readable: Arc<RwLock<bool>>,
}

impl Snapshot {
    pub(super) fn open(
        file: &Arc<FileBackend>,
        durable: DurableState,
        cache_bytes: usize,
    ) -> Result<Self, Error> {
        let mut header = durable.header;
        if let Some(flags) = header.get_mut(FLAGS_OFFSET) {
            *flags &= !RECOVERY_REQUIRED;
        }
        let readable = Arc::new(RwLock::new(true));
        let backend = SnapshotBackend {
            file: Arc::clone(file),
            header,
            len: durable.len,
            readable: Arc::clone(&readable),
        };
        let db = ::redb::Builder::new()
            .set_cache_size(cache_bytes)
            .set_concurrency_mode(ConcurrencyMode::SingleWriter)
            .open_read_only_with_backend(backend)?;
        Ok(Self { db, readable })
    }

    /// Ends current and later reads, before the pages are overwritten.
    pub(super) fn revoke(&self) {
        *self.readable.write().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

#[derive(Debug)]
struct SnapshotBackend {
    file: Arc<FileBackend>,
    header: Vec<u8>,
    len: u64,
    readable: Arc<RwLock<bool>>,
}

impl StorageBackend for SnapshotBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let readable = self.readable.read().unwrap_or_else(PoisonError::into_inner);
        if !*readable {
            return Err(io::Error::other(Revoked));
        }
        if offset != 0 {
            return self.file.read(offset, out);
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

    // The store's own lock keeps other processes out, so the engine's locks between
    // processes always succeed.

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
