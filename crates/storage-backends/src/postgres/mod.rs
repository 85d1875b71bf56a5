//! The PostgreSQL store: one store for many hosts.

mod address;
mod commits;
mod connection;
mod error;
mod inspection;
mod listing;
mod notices;
mod options;
mod parameters;
mod pool;
mod queues;
mod revisions;
mod schema;
mod snapshot;
mod statements;
mod store;
mod transport;
mod verify;
mod writer;

pub use inspection::{PostgresReport, PostgresWarning};
pub use options::PostgresOptions;
pub use store::PostgresStorage;
