//! The file store: a file a key, in a folder a component.

mod components;
#[cfg(test)]
mod fault_tests;
mod index;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod journal;
mod layout;
mod listing;
mod locks;
mod name;
mod partition;
mod read_only;
mod revisions;
mod scan;
mod snapshot;
mod store;
mod sweep;
mod unflushed;
mod verify;
mod write;

use crate::{disk, lock};

#[cfg(test)]
pub(crate) use fault_tests::fault_point;
pub use store::{FileOptions, FileStorage};
