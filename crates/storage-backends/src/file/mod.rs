//! The file store: a file a key, in a folder a component.

mod disk;
#[cfg(test)]
mod fault_tests;
mod index;
mod journal;
mod layout;
mod listing;
mod lock;
mod locks;
mod name;
mod partition;
mod read_only;
mod revisions;
mod snapshot;
mod store;
mod unflushed;
mod write;

pub use store::{FileOptions, FileStorage};
