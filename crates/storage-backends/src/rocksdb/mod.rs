//! The RocksDB store: an engine in C++, in a folder.
//!
//! Full keys and their records lie in the default column family, what the store
//! says of itself in `meta`, and what components use in `ledgers`.

mod checkpoint;
mod errors;
mod keys;
mod layout;
mod ledger;
mod listing;
mod log;
mod meta;
mod opening;
mod options;
mod read;
mod seal;
mod store;
mod usage;
mod verify;
mod write;
mod writer;

pub use options::RocksDbOptions;
pub use store::RocksDbStorage;
