//! Making writes durable on servers that sync every second.
//!
//! A server tells whether it syncs, but not what it has synced. With appendfsync everysec it
//! begins to sync within a second after a write, by a clock that counts seconds; so after two
//! seconds, a server that syncs nothing has synced every write from before.

use std::thread;
use std::time::Duration;

use storage_core::{Durability, StorageError};

use super::database::Database;
use super::deployment::RedisAddress;
use super::inspection::Server;

const UNTIL_SYNC_BEGINS: Duration = Duration::from_millis(2_100);
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
const MAX_LOOKS: u32 = 600;

/// Waits until every write that has returned is on the disks of the primaries.
///
/// # Errors
/// [`StorageError::Unavailable`].
pub(super) fn flush(
    database: &Database,
    durability: Option<Durability>,
) -> Result<(), StorageError> {
    match durability {
        None | Some(Durability::Sync) => Ok(()),
        Some(Durability::Os) => Err(unavailable(
            "a Redis server with appendfsync no does not tell when writes are on disk; set \
             appendfsync always or everysec",
        )),
        Some(Durability::Relaxed) => {
            thread::sleep(UNTIL_SYNC_BEGINS);
            let masters = database.client.masters();
            masters.iter().try_for_each(|address| until_synced(database, address))
        }
    }
}

fn until_synced(database: &Database, address: &RedisAddress) -> Result<(), StorageError> {
    for _ in 0..MAX_LOOKS {
        if Server::read(&database.client, address)?.has_synced() {
            return Ok(());
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    Err(unavailable("a Redis server did not sync its writes in time; see its log, and try again"))
}

fn unavailable(detail: &str) -> StorageError {
    StorageError::Unavailable { key: None, detail: detail.to_owned() }
}
