//! Components of a store that cannot be read, among others that can.

use std::fmt::Write;

use serde::Serialize;
use storage_host::{ComponentStorage, StorageError};

use super::failure::Failure;

/// How many prefixes are asked for at a time.
const PAGE: usize = 1_000;

/// How many a message names. JSON has all of them.
const NAMED: usize = 10;

/// A component that cannot be read, or all components below a part of an id.
#[derive(Debug, Serialize)]
pub(super) struct Unreadable {
    /// The component's id; a part of one where its directory cannot be listed.
    id: String,
    /// What failed on what, and what to do.
    reason: String,
}

/// Calls `visit` with the prefixes of all components that can be read, in order, a
/// page at a time, and returns those that cannot.
pub(super) fn for_each_page(
    storage: &dyn ComponentStorage,
    mut visit: impl FnMut(&[String]) -> Result<(), Failure>,
) -> Result<Vec<Unreadable>, Failure> {
    let mut unreadable = Vec::new();
    let mut after: Option<String> = None;
    loop {
        match storage.list_partitions(after.as_deref(), PAGE) {
            Ok(page) => {
                visit(&page.keys)?;
                let Some(last) = page.keys.last().filter(|_| page.more) else {
                    return Ok(unreadable);
                };
                after = Some(last.clone());
            }
            // Only forward, or a store that changes meanwhile is never done.
            Err(StorageError::UnreadableComponent { prefix, detail })
                if after.as_ref().is_none_or(|after| *after < prefix) =>
            {
                let id = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned();
                unreadable.push(Unreadable { id, reason: detail });
                after = Some(prefix);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The failure of a command that cannot do without what cannot be read; none if
/// all can be read.
pub(super) fn refuse(what_failed: &str, unreadable: &[Unreadable]) -> Result<(), Failure> {
    let message = match unreadable {
        [] => return Ok(()),
        [one] => format!("{what_failed}: {} cannot be read: {}", one.id, one.reason),
        many => {
            let mut text = format!("{what_failed}: {} components cannot be read:", many.len());
            for one in many.iter().take(NAMED) {
                // Cannot fail: it goes to memory.
                let _ = write!(text, "\n  {}: {}", one.id, one.reason);
            }
            if many.len() > NAMED {
                text.push_str("\n  ...; with --json, components shows all of them");
            }
            text
        }
    };
    Err(Failure::new("unreadable", message))
}
