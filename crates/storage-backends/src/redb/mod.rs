//! The redb store: one file, an engine in pure Rust.

mod count;
mod disk;
mod engine;
mod fail;
#[cfg(test)]
mod fault_tests;
mod group;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod listing;
mod options;
mod place;
mod snapshot;
mod store;
mod tables;
mod verify;
mod write;

pub use options::RedbOptions;
pub use store::RedbStorage;
