//! Isolated, cached and durable key-value storage for each WebAssembly component of
//! a host.
//!
//! A component calls `storage.get("user:123")` and sees only its own data. The host
//! knows the caller and adds a prefix to the key, so a component cannot name the keys
//! of another:
//!
//! ```text
//! guest -> limits -> quota -> NamespacedStorage -> CachedStorage -> a store
//! ```
//!
//! A store that answers from memory has no cache in front of it.
//!
//! [`StorageHost`] owns the store and creates this chain for each component,
//! [`StoreUrl`] opens the store that an operator chose, and `guest::add_to_linker`
//! adds the interfaces to a wasmtime linker.
//!
#![cfg_attr(feature = "memory", doc = "```")]
#![cfg_attr(not(feature = "memory"), doc = "```ignore")]
//! use storage_host::{ComponentStorage, Mode, StorageHost, StoreUrl};
//!
//! let store: StoreUrl = "memory:".parse()?;
//! let host = StorageHost::new(store.open(Mode::ReadWrite)?);
//!
//! let home = host.component(&"app/notes/home".parse()?);
//! let work = host.component(&"app/notes/work".parse()?);
//! home.set("user:123", "Ada".into())?;
//! assert_eq!(work.get("user:123")?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `wasmtime` | the module `guest`: storage, configuration and logs for the components of a wasmtime host, and wasmtime itself, re-exported; with `memory` also the module `compat`: the interface of wasmtime-wasi-keyvalue | yes |
//! | `async` | `guest::add_to_linker_async`, for hosts on tokio; enables `wasmtime` | yes |
//! | `p3` | in asynchronous linkers `spin:key-value@3.0.0` and `wasmcloud:keyvalue@0.2.0`, whose calls overlap; enables `async` | no |
//! | `manifest` | `Manifest`: a host's components, quotas, limits and grants from a TOML file | yes |
//! | `cli` | the `storage-host` command; enables `wasmtime` and `manifest` | yes |
//! | `signals` | the module `signals` (Unix): shuts a process down on SIGTERM, SIGINT and SIGHUP | yes |
//! | `memory` | the store `memory:` | yes |
//! | `file` | the store `file:PATH` | yes |
//! | `redb` | the store `redb:PATH` | yes |
//! | `postgres` | the store `postgres://USER@HOST/DATABASE`, which several hosts can use | no |
//! | `rocksdb` | the store `rocksdb:PATH`; its build needs libclang and compiles C++ for minutes | no |
//!
//! Without features it has only [`StorageHost`], [`Limits`], quota and
//! [`create_component_storage`], for a host without wasmtime or with its own store.

#![forbid(unsafe_code)]

mod built_in;
mod caches;
mod chain;
mod coherence;
#[cfg(all(feature = "wasmtime", feature = "memory"))]
pub mod compat;
mod component_config;
#[cfg(any(feature = "wasmtime", feature = "internals"))]
mod cursors;
mod grants;
#[cfg(feature = "wasmtime")]
pub mod guest;
#[cfg(feature = "wasmtime")]
mod hidden;
mod host;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
#[cfg(feature = "wasmtime")]
mod log_budget;
#[cfg(feature = "manifest")]
mod manifest;
#[cfg(feature = "manifest")]
mod manifest_warnings;
#[cfg(feature = "async")]
mod offload;
mod optional_cache;
mod password;
mod quota;
mod registry;
mod scheme;
mod server;
mod shutdown;
#[cfg(all(feature = "signals", unix))]
pub mod signals;
mod store_path;
mod store_url;
mod transfer;

pub use chain::create_component_storage;
pub use component_config::ComponentConfig;
pub use grants::{Access, Grant, GrantedStorage};
pub use host::{
    ComponentChain, ComponentSettings, ComponentUsage, StorageHost, StorageHostBuilder,
};
pub use limits::{LimitedStorage, Limits};
#[cfg(feature = "manifest")]
pub use manifest::{Manifest, ManifestComponent, ManifestError};
#[cfg(feature = "manifest")]
pub use manifest_warnings::ManifestWarning;
#[cfg(feature = "async")]
pub use offload::{BriefReads, Offload};
pub use password::hide_passwords;
pub use quota::QuotaStorage;
pub use registry::StoreRegistry;
pub use scheme::{Inspection, Location, Mode, Needs, Scheme, Setting};
pub use server::Server;
pub use store_url::{StoreUrl, StoreUrlError};
pub use transfer::{Copied, CopyError, CopyOptions, copy_store};

pub use storage_cache::{
    CacheConfig, CacheStats, CachedStorage, Clock, CoherenceStats, DEFAULT_MAX_STALENESS,
    ManualClock, SharedCache,
};
pub use storage_core::{
    Budget, Change, Commit, ComponentId, ComponentStorage, Durability, InvalidComponentId, KeyPage,
    NamespacedStorage, PageRequest, Problem, ProblemKind, Revision, SharedStore, SnapshotVisitor,
    StorageError, StorageValue, Store, StoreProperties, Usage, Verified, VersionedValue, Watcher,
    forward_storage, put, validate_key,
};

#[cfg(feature = "wasmtime")]
pub use {wasmtime, wasmtime_wasi};

/// The example of `docs/wasmtime-wasi-keyvalue.md`.
#[cfg(all(doctest, feature = "wasmtime", feature = "memory"))]
#[doc = include_str!("../../../docs/wasmtime-wasi-keyvalue.md")]
struct ForHostsOfWasmtimeWasiKeyvalue;
