//! Unreadable components.

use std::fmt::Write;

use serde::Serialize;
use storage_host::{StorageError, Store};

use super::failure::Failure;
use super::listing::PAGE;

/// How many a message names; JSON lists all.
const NAMED: usize = 10;

/// An unreadable component, or all components below a part of an id.
#[derive(Debug, Serialize)]
pub(super) struct Unreadable {
    /// The component's id; a part of one where its directory cannot be listed.
    id: String,
    /// Why, and what to do.
    reason: String,
}

impl Unreadable {
    /// What cannot be read, for a message.
    fn shown(&self) -> String {
        match self.id.matches('/').count() {
            0 | 1 => format!("components below {}", self.id),
            _ => self.id.clone(),
        }
    }
}

/// The prefixes of all readable components, in order, a page at a time.
pub(super) struct Pages<'a> {
    storage: &'a dyn Store,
    after: Option<String>,
    is_done: bool,
    unreadable: Vec<Unreadable>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(storage: &'a dyn Store) -> Self {
        Self { storage, after: None, is_done: false, unreadable: Vec::new() }
    }

    /// The next page; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Vec<String>>, Failure> {
        while !self.is_done {
            match self.storage.list_components(self.after.as_deref(), PAGE) {
                Ok(page) => {
                    self.after = page.keys.last().cloned();
                    self.is_done = !page.more || self.after.is_none();
                    return Ok(Some(page.keys));
                }
                // The position must advance, or a store that changes could loop forever.
                Err(StorageError::UnreadableComponent { prefix, detail })
                    if self.after.as_ref().is_none_or(|after| *after < prefix) =>
                {
                    let id = prefix.strip_suffix('/').unwrap_or(&prefix).to_owned();
                    self.unreadable.push(Unreadable { id, reason: detail });
                    self.after = Some(prefix);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The unreadable components found so far.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// Fails if any component is unreadable.
    pub(super) fn refuse(&self, what_failed: &str) -> Result<(), Failure> {
        let message = match &*self.unreadable {
            [] => return Ok(()),
            [one] => format!("{what_failed}: {} cannot be read: {}", one.shown(), one.reason),
            many => {
                let mut text = format!("{what_failed}: {} components cannot be read:", many.len());
                for one in many.iter().take(NAMED) {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "\n  {}: {}", one.shown(), one.reason);
                }
                if many.len() > NAMED {
                    text.push_str("\n  ...; storage-host components --json lists all");
                }
                text
            }
        };
        Err(Failure::new("unreadable", message))
    }
}
