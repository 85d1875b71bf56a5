//! The RocksDB store: an engine in C++, in a directory.
//!
//! Full keys and their records are in the default column family, the store's metadata in
//! `meta`, and usage counters in `ledgers`.

mod checkpoint;
mod close_marker;
mod compaction;
mod counter_format;
mod counters;
mod database;
mod engine_writer;
mod error;
mod keys;
mod layout;
mod listing;
mod meta;
mod opening;
mod options;
mod store;
mod verify;
mod writer;

pub use options::RocksDbOptions;
pub use store::RocksDbStorage;
