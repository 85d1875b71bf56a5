//! The admin socket: other processes use the store that a host has open.
//!
//! One process writes to a local store at a time. While a host runs, the commands of
//! `storage-host` ask it through a Unix socket next to the store: `data.redb.admin.sock` for
//! `redb:data.redb`, `storage-data.admin.sock` for `file:storage-data`. Symbolic links in
//! the store's path are followed first. The socket has mode 0600 from the moment it exists.
//! A socket that a killed process left is replaced; that of a running one is not.
//!
//! [`serve`] opens the socket of an embedder's host, and [`Client`] asks it.
//!
//! ```no_run
//! use storage_host::{Mode, StorageHost, StoreUrl, admin};
//!
//! let url: StoreUrl = "redb:data.redb".parse()?;
//! let host = StorageHost::new(url.open(Mode::ReadWrite)?);
//! let server = admin::serve(&host, &url)?;
//! // In another process:
//! if let Some(mut client) = admin::Client::connect(&url)? {
//!     let id = "app/notes/home".parse()?;
//!     client.put(&id, "title", "Home".into())?;
//! }
//! drop(server); // removes the socket
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Protocol
//!
//! HTTP/1.1. Results are JSON unless the table says otherwise.
//!
//! | request | result |
//! |---|---|
//! | `GET /v1/store` | the store's URL without a password, its scheme, device and inode, and the host's process id, version and start in seconds since 1970 |
//! | `GET /v1/components?after=&limit=` | `prefixes` of components, and `more` |
//! | `GET /v1/keys?component=&prefix=&after=&limit=` | `keys`, and `more` |
//! | `GET /v1/value?component=&key=` | the bytes of the value |
//! | `PUT /v1/value?component=&key=` | stores the body, durably |
//! | `DELETE /v1/value?component=&key=` | deletes the key, durably |
//! | `GET /v1/usage?component=` | `key_count`, `used_bytes`, and the quota, whose parts are `null` if unlimited |
//! | `GET /v1/verify` | a JSON document on each line: a `problem`, and at the end `verified` or an `error` |
//! | `GET /v1/snapshot?prefix=` | all full keys and values at one point in time, as in `stream.rs` |
//! | `GET /v1/top` | what the busiest components and all others did since the host started |
//! | `POST /v1/wipe?component=` | deletes all keys of the component, and returns their number as `removed_keys` |
//! | `POST /v1/compact` | returns space to the file system: `bytes_before` and `bytes_after` of the store |
//! | `POST /v1/reload` | reads the settings again: what has `changed`, and what `needs_restart` |
//! | `GET /metrics` | the metrics of the host as text for Prometheus |
//!
//! Parameters are percent-encoded UTF-8. A `+` must be written `%2B`, because programs
//! disagree on whether it means a space. A page has at most 1,000 items. An unknown
//! parameter is an error. An error is `{"error":{"kind":...,"message":...}}`, where the kinds
//! are those of the command's `--json`.
//!
//! All requests for a component go through its chain, so its limits and quota apply, and a
//! running guest sees a `PUT` despite its cache. Calls to the store run on threads that may
//! block.

mod client;
mod page;
mod query;
mod routes;
mod server;
mod socket;
mod stream;
mod top;
mod wire;

use std::io;
use std::path::PathBuf;

pub use client::{Client, ClientError};
pub use page::Token;
pub use server::{AdminServer, PageServer, serve, serve_page, serve_with_reload};
pub use top::{ActiveComponent, Activity};
pub use wire::{QuotaAndUsage, StoreInfo};

/// Why an admin socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The store has no path next to which a socket could be.
    #[error("a {scheme}: store has no path, and so no admin socket")]
    NoPath {
        /// The scheme of the store's URL.
        scheme: &'static str,
    },
    /// The socket could not be created.
    #[error("cannot create the admin socket {}: {error}", path.display())]
    Socket {
        /// The path of the socket, or of the store if that could not be resolved.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The thread that answers could not be started.
    #[error("cannot start the thread of the admin socket: {0}")]
    Thread(#[source] io::Error),
}
