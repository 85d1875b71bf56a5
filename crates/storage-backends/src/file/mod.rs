//! The file store: one file for each key, one directory for each component.

mod component;
mod component_names;
mod components;
#[cfg(test)]
mod fault_tests;
mod file_writer;
mod indeterminate;
mod index;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod journal;
mod key_file;
mod layout;
mod name;
mod pending;
mod reader;
mod revisions;
mod scan;
mod snapshot;
mod store;
mod sweep;
mod unflushed;
mod verify;
mod writer;

use crate::{disk, lock};

pub use store::{FileOptions, FileStorage};
