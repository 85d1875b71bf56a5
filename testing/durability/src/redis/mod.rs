//! Redis servers that are killed, fail over, lose their network or their power, and clusters
//! whose slots move, while hosts write.

mod chains;
mod failovers;
mod groups;
mod judge;
mod location;
mod memory;
mod servers;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use storage_backends::RedisStorage;
use storage_core::{Durability, Problem, StorageError, Store};
use test_servers::Redis;

use crate::engine::Mode;

pub(crate) use failovers::{Failovers, Failure};
pub(crate) use groups::GroupKind;
pub(crate) use location::Location;
pub(crate) use memory::FullMemory;
pub(crate) use servers::{Disturbance, Servers};

/// How long the connections of killed hosts may take to end.
const LIMIT: Duration = Duration::from_secs(60);

/// What the store calls its connections.
const CLIENT_NAME: &str = "name=storage-host";

/// Opens a store for writing, whose servers must sync every write if the mode says so.
pub(crate) fn open(mode: Mode, path: &Path) -> Result<Arc<dyn Store>, StorageError> {
    let storage = RedisStorage::open(&Location::of(path)?.options())?;
    let durability = storage.properties().durability;
    if mode == Mode::Sync && durability != Some(Durability::Sync) {
        let text = format!("the servers have the durability {durability:?}");
        return Err(StorageError::Unsupported(text));
    }
    Ok(Arc::new(storage))
}

/// Verifies a store.
pub(crate) fn verify(path: &Path, report: &mut dyn FnMut(Problem)) -> Result<(), StorageError> {
    RedisStorage::open_existing(&Location::of(path)?.options())?.verify(report).map(drop)
}

/// Waits until no host is connected. A killed host may have sent a commit that the server
/// still applies.
pub(crate) fn wait_for_hosts<'s>(servers: impl IntoIterator<Item = &'s Redis>) -> Result<()> {
    let start = Instant::now();
    for server in servers {
        while server.command(&["client", "list"])?.contains(CLIENT_NAME) {
            ensure!(start.elapsed() < LIMIT, "a server keeps the connections of killed hosts");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}
