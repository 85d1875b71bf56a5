//! `compact`: returns the space of deleted values.

use std::fs;

use serde::Serialize;
use storage_host::{Compacted, Mode, StorageHost};

use super::beside::Client;
use super::doctor::Size;
use super::ending::OnSignal;
use super::failure::Failure;
use super::output::Output;
use super::progress::Progress;
use super::target::Target;

/// Return the space of deleted and overwritten values to the file system
///
/// For redb: and rocksdb: stores. Keys and values stay as they are. A host that has the store
/// open is asked to do it, and calls of its components wait. It may be interrupted, which
/// loses nothing. A file: store has nothing to compact.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn compact(target: &Target, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        store: &'a str,
        bytes_before: u64,
        bytes_after: u64,
        bytes_returned: u64,
    }

    let here = |host: StorageHost| {
        let _on_signal = OnSignal::shut_down(&host);
        let _progress = Progress::new("compacting");
        Ok(host.store().compact()?)
    };
    let there = |mut client: Client| {
        let _progress = Progress::new("compacting");
        Ok(client.compact()?)
    };
    let compacted = target.here_or_there(Mode::ReadWriteExisting, here, there)?;
    let Compacted { bytes_before: before, bytes_after } = compacted;
    // A redb store grows a little when it is closed, as it is now without a host.
    let path = target.url().path().and_then(|path| fs::canonicalize(path).ok());
    let after = path.map_or(bytes_after, |path| Size::of(&path).bytes);
    let returned = before.saturating_sub(after);
    if output.json() {
        return output.document(&Document {
            store: &target.url().to_string(),
            bytes_before: before,
            bytes_after: after,
            bytes_returned: returned,
        });
    }
    output.line(format_args!("before    {before} bytes"))?;
    output.line(format_args!("after     {after} bytes"))?;
    output.line(format_args!("returned  {returned} bytes"))
}
