//! `copy`: copies a store into another one.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use storage_host::{
    ComponentId, Copied, CopyError, CopyOptions, Manifest, Mode, StorageError, StorageHost, Store,
    StoreUrl, copy_store,
};

use super::beside::here_or_there;
use super::ending::OnSignal;
use super::extent::Extent;
use super::failure::Failure;
use super::host_store::HostStore;
use super::output::Output;
use super::progress::{Progress, counted};
use super::target;
use super::unreadable::Pages;
use super::wait::Wait;

/// Copies a store. With `manifest`, its quotas and limits apply to the target.
pub(super) fn copy(
    (from, to): (&StoreUrl, &StoreUrl),
    options: CopyOptions<'_>,
    manifest: Option<&Manifest>,
    wait: Wait,
    output: &mut Output,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        from: &'a str,
        to: &'a str,
        written_keys: u64,
        written_bytes: u64,
        unchanged_keys: u64,
        unchanged_bytes: u64,
    }

    refuse_unusable_paths(from, to)?;
    let settings = manifest.map(|manifest| move |id: &ComponentId| manifest.settings(id).clone());
    let mut options = options;
    if let Some(settings) = &settings {
        options = options.with_settings(settings);
    }
    let copied = copy_all(from, to, options, wait)?;
    let (written, unchanged) = (copied.written, copied.unchanged);
    if output.json() {
        return output.document(&Document {
            from: &from.to_string(),
            to: &to.to_string(),
            written_keys: written.keys,
            written_bytes: written.bytes,
            unchanged_keys: unchanged.keys,
            unchanged_bytes: unchanged.bytes,
        });
    }
    let skipped = match unchanged.keys {
        0 => String::new(),
        keys => format!("; {} ({} bytes) unchanged", counted(keys, "key"), unchanged.bytes),
    };
    output.line(format_args!(
        "copied {} ({} bytes){skipped}",
        counted(written.keys, "key"),
        written.bytes
    ))
}

fn copy_all(
    from: &StoreUrl,
    to: &StoreUrl,
    options: CopyOptions<'_>,
    wait: Wait,
) -> Result<Copied, Failure> {
    let source = here_or_there(
        from,
        wait,
        || {
            let opened = from.open(Mode::ReadOnly);
            let source = opened.map_err(|error| Failure::of_opening(from, &error))?;
            check_source(&*source, options)?;
            Ok(source)
        },
        |client| {
            let source: Arc<dyn Store> = Arc::new(HostStore::new(client));
            check_source(&*source, options)?;
            Ok(source)
        },
    )?;
    // The flush at the end makes the copy durable, and an interrupted copy is repeated.
    // Single writes need not be durable.
    let target = wait.until_unlocked(|| {
        let opened = target::open(&to.relaxed(), Mode::ReadWrite);
        opened.map_err(|error| Failure::of_opening(to, &error))
    })?;
    let (source_id, target_id) = (source.properties().store_id, target.properties().store_id);
    if source_id.is_some() && source_id == target_id && from.is_on_server() {
        let message = format!("\"{from}\" and \"{to}\" are the same store: choose another target");
        return Err(Failure::new("usage", message));
    }
    let target = StorageHost::new(target);
    let _on_signal = OnSignal::shut_down(&target);

    // If the source is locked, the copy is retried, and skips what it has copied.
    wait.until_unlocked(|| {
        let mut extent = Extent::of(&*source, None);
        let mut progress = Progress::of("copying", extent.total());
        let mut show = |key: &str, copied: &Copied| {
            let total = copied.total();
            progress.moved(extent.position(total.keys, key), total, key);
        };
        copy_store(&*source, target.store(), options, &mut show).map_err(Failure::of_copy)
    })
}

/// Refuses a source with unreadable components, or one that cannot be read at all.
fn check_source(source: &dyn Store, options: CopyOptions<'_>) -> Result<(), Failure> {
    let mut components = Pages::new(source);
    while components.next()?.is_some() {}
    components.refuse("cannot copy the source")?;
    if options.by_component {
        return Ok(());
    }
    check_snapshot(source, "").map_err(|error| {
        let advice = match error {
            StorageError::Unsupported(_) => {
                "; to copy each component as of its own point in time, add --by-component"
            }
            _ => "",
        };
        Failure::of_copy(CopyError::Source(error)).with(advice)
    })
}

/// Reads the first key that begins with `prefix`, so that an unreadable source fails before the
/// target is created.
pub(super) fn check_snapshot(source: &dyn Store, prefix: &str) -> Result<(), StorageError> {
    let mut looked = false;
    let look = source.read_snapshot(prefix, None, &mut |_, _| {
        looked = true;
        Err(StorageError::ReadOnly)
    });
    match look {
        Err(error) if !looked => Err(error),
        _ => Ok(()),
    }
}

/// Refuses stores that are not persistent, and stores that contain each other.
fn refuse_unusable_paths(from: &StoreUrl, to: &StoreUrl) -> Result<(), Failure> {
    let wrong = |message: String| Err(Failure::new("usage", message));
    if !from.is_persistent() || !to.is_persistent() {
        return wrong(
            "cannot copy from or to a memory: store: it starts empty, and its data is lost when \
             the command ends; use a persistent store, such as redb:PATH"
                .to_owned(),
        );
    }
    // Stores on a server are compared when they are open: a server has many names.
    let (Some(from_path), Some(to_path)) = (from.path(), to.path()) else { return Ok(()) };
    let (from_ids, to_ids) = (identities(from_path), identities(to_path));
    match (from_ids.first(), to_ids.first()) {
        (Some(one), Some(other)) if one == other => {
            wrong(format!("\"{from}\" and \"{to}\" are the same store: choose another target"))
        }
        (Some(one), Some(_)) if to_ids.contains(one) => wrong(format!(
            "the target \"{to}\" is inside the source \"{from}\": choose a path outside of it"
        )),
        (Some(_), Some(other)) if from_ids.contains(other) => wrong(format!(
            "the source \"{from}\" is inside the target \"{to}\": choose a path outside of it"
        )),
        _ => Ok(()),
    }
}

/// What identifies a file or directory.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Device and inode, the same for every path to it.
    #[cfg(unix)]
    Node(u64, u64),
    /// The path of something that does not exist yet.
    Name(PathBuf),
}

/// The identities of a path and of the directories above it.
fn identities(path: &Path) -> Vec<Identity> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // Follow links in the part of the path that exists; the rest has none.
    let existing = absolute.ancestors().find_map(|above| {
        let real = fs::canonicalize(above).ok()?;
        Some((real, absolute.strip_prefix(above).ok()?.to_owned()))
    });
    let whole = match existing {
        Some((real, rest)) if rest.as_os_str().is_empty() => real,
        Some((real, rest)) => {
            // Nothing here exists, so `..` can be resolved by name.
            let named = rest.components().fold(real, |mut path, part| {
                match part {
                    Component::ParentDir => drop(path.pop()),
                    part => path.push(part),
                }
                path
            });
            fs::canonicalize(&named).unwrap_or(named)
        }
        None => absolute,
    };
    whole.ancestors().map(identity).collect()
}

fn identity(path: &Path) -> Identity {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return Identity::Node(metadata.dev(), metadata.ino());
    }
    Identity::Name(path.to_owned())
}
