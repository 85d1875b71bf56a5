//! `wipe`: removes a component.

use serde::Serialize;
use storage_host::{ComponentId, KeyPage, Mode, PageRequest, StorageError, StorageHost};

use super::args;
use super::beside::{Client, storage_error};
use super::ending::OnSignal;
use super::extent::count_pages;
use super::failure::Failure;
use super::listing::PAGE;
use super::output::Output;
use super::progress::{Progress, counted};
use super::target::Target;

/// Remove all keys of one component
///
/// Without --yes it removes nothing and says what it would remove. Other components, and
/// grants of the manifest, stay as they are. If it is interrupted, a part of the keys is
/// removed: run it again. compact then returns the space, if the store can do that.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The component: NAMESPACE/NAME/INSTANCE
    #[arg(value_parser = args::id())]
    id: ComponentId,

    /// Remove the keys
    #[arg(long)]
    yes: bool,
}

pub(super) fn wipe(target: &Target, args: &Args, output: &mut Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        id: &'a str,
        removed: bool,
        keys: u64,
        /// `None` if a damaged value cannot be counted.
        bytes: Option<u64>,
    }

    let Args { id, yes } = args;
    let mode = if *yes { Mode::ReadWriteExisting } else { Mode::ReadOnly };
    let (removed, bytes) =
        target.here_or_there(mode, |host| here(&host, args), |client| there(client, args))?;
    if output.json() {
        return output.document(&Document { id: id.as_str(), removed: *yes, keys: removed, bytes });
    }
    let what = match bytes {
        Some(bytes) => format!("{} ({bytes} bytes) of {id}", counted(removed, "key")),
        None => format!("{} of {id}", counted(removed, "key")),
    };
    match (*yes, removed) {
        (true, _) => output.line(format_args!("removed {what}")),
        (false, 0) => output.line(format_args!("{id} has no keys")),
        (false, _) => output.line(format_args!("would remove {what}; to remove them, add --yes")),
    }
}

/// The keys that are removed or would be, and their bytes if all values can be counted.
type Extent = (u64, Option<u64>);

fn here(host: &StorageHost, Args { id, yes }: &Args) -> Result<Extent, Failure> {
    let _on_signal = OnSignal::shut_down(host);
    let chain = host.component(id);
    let page = |after: Option<&str>| {
        chain.for_operator().list_page(PageRequest { prefix: "", after, limit: PAGE })
    };
    let used = host.usage(id).map(|used| (used.key_count, used.used_bytes));
    let (keys, bytes) = extent(used.map_err(Failure::from), page)?;
    if !yes {
        return Ok((keys, bytes));
    }
    let mut progress = Progress::of("wiping", Some(keys));
    let removed = host.wipe(id, &mut |removed| progress.counted(removed))?;
    drop(progress);
    host.store().flush()?;
    Ok((removed, bytes))
}

fn there(mut client: Client, Args { id, yes }: &Args) -> Result<Extent, Failure> {
    let used = client.usage(id).map(|used| (used.key_count, used.used_bytes));
    let page = |after: Option<&str>| {
        let request = PageRequest { prefix: "", after, limit: PAGE };
        client.list_page(id, request).map_err(storage_error)
    };
    let (keys, bytes) = extent(used.map_err(Failure::from), page)?;
    Ok((if *yes { client.wipe(id)? } else { keys }, bytes))
}

fn extent(
    used: Result<(u64, u64), Failure>,
    page: impl FnMut(Option<&str>) -> Result<KeyPage, StorageError>,
) -> Result<Extent, Failure> {
    match used {
        Ok((keys, bytes)) => Ok((keys, Some(bytes))),
        // It can be removed nevertheless.
        Err(failure) if failure.is_of_kind("corrupt") => {
            Ok((count_pages(page, &|| false)?.unwrap_or_default(), None))
        }
        Err(failure) => Err(failure),
    }
}
