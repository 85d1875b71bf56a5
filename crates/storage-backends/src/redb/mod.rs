//! The redb store: one file, an engine in pure Rust.

mod batch;
mod compaction;
mod counts;
mod engine;
mod error;
#[cfg(test)]
mod fault_tests;
mod file_backend;
mod flusher;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod listing;
mod options;
mod snapshot;
mod store;
mod store_file;
mod tables;
mod verify;
mod writer;

pub use options::RedbOptions;
pub use store::RedbStorage;
