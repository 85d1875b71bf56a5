//! Moves pages to the start of the file and cuts its end off.
//!
//! The engine does this in a series of durable commits, each of which leaves the same keys
//! and values. It copies a page before it frees the old one, so the process may be killed
//! between any two writes.

use std::thread;
use std::time::Duration;

use ::redb::{CompactionError, Database};
use storage_core::{Compacted, StorageError};

use super::engine::Engine;
use super::error::Error;

/// How often, and with which pause, the reads in progress are awaited: about a second,
/// because other calls wait too.
const TRIES: u32 = 500;
const PAUSE: Duration = Duration::from_millis(2);

/// Compacts the file. The caller keeps other writes out. `is_durable` is called once the
/// writes that have returned are durable.
pub(super) fn compact(
    engine: &Engine,
    is_durable: impl FnOnce() -> Result<(), Error>,
) -> Result<Compacted, StorageError> {
    let file = engine.file();
    file.check_in_place()?;
    let mut bytes_before = 0;
    engine.write_alone(|db| {
        bytes_before = file.len();
        // Writes that have returned must not depend on what follows.
        db.begin_write()?.commit()?;
        is_durable()?;
        // The engine continues after a commit that a full disk keeps in memory, and would
        // overwrite pages of the last durable one.
        file.without_backlog(|| compact_after_reads(db))
    })?;
    Ok(Compacted { bytes_before, bytes_after: file.len() })
}

/// No read begins meanwhile, but one may be in progress.
fn compact_after_reads(db: &mut Database) -> Result<(), Error> {
    for _ in 0..TRIES {
        match db.compact() {
            Err(CompactionError::TransactionInProgress) => thread::sleep(PAUSE),
            compacted => return Ok(compacted.map(drop)?),
        }
    }
    Err(Error::Store(StorageError::Unavailable {
        key: None,
        detail: "it cannot be compacted while a long read is in progress, such as an export or a \
                 copy; try again when that has ended"
            .to_owned(),
    }))
}
