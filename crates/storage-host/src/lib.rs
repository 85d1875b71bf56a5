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
//! | `serve` | the module `serve`: a server of `wasi:http` components; enables `async` | yes |
//! | `manifest` | `Manifest`: a host's components, quotas, limits and grants from a TOML file | yes |
//! | `metrics` | `StorageHost::metrics`: what components and the host do, in numbers and for Prometheus | yes |
//! | `tracing` | spans of storage calls; enabled by `wasmtime` and `metrics` | yes |
//! | `archive` | `export_store` and `import_archive`: a store as lines of JSON that detect any change | yes |
//! | `admin` | the module `admin` (Unix): a socket by which other processes use the store of a host | yes |
//! | `cli` | the `storage-host` command; enables `admin`, `archive`, `manifest`, `metrics` and `wasmtime` | yes |
//! | `signals` | the module `signals` (Unix): shuts a process down on SIGTERM, SIGINT and SIGHUP | yes |
//! | `memory` | the store `memory:` | yes |
//! | `file` | the store `file:PATH` | yes |
//! | `redb` | the store `redb:PATH` | yes |
//! | `postgres` | the store `postgres://USER@HOST/DATABASE`, which several hosts can use | no |
//! | `redis` | the stores `redis://HOST`, `rediss://HOST`, `redis+cluster://HOST,HOST` and `redis+sentinel://HOST,HOST/MASTER` in Redis or Valkey, which several hosts can use | no |
//! | `rocksdb` | the store `rocksdb:PATH`; its build needs libclang and compiles C++ for minutes | no |
//!
//! Without features it has only [`StorageHost`], [`Limits`], quota and
//! [`create_component_storage`], for a host without wasmtime or with its own store.

#![forbid(unsafe_code)]

#[cfg(all(feature = "admin", unix))]
pub mod admin;
#[cfg(feature = "archive")]
mod archive;
mod built_in;
mod caches;
mod chain;
mod coherence;
#[cfg(all(feature = "wasmtime", feature = "memory"))]
pub mod compat;
mod component_chain;
mod component_config;
#[cfg(any(feature = "wasmtime", feature = "internals"))]
mod cursors;
mod grants;
#[cfg(feature = "wasmtime")]
pub mod guest;
#[cfg(any(feature = "wasmtime", all(feature = "admin", unix)))]
mod hidden;
mod host;
#[cfg(any(feature = "manifest", feature = "serve"))]
mod http_settings;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod limits;
mod live;
#[cfg(feature = "wasmtime")]
mod log_budget;
#[cfg(feature = "manifest")]
mod manifest;
#[cfg(feature = "manifest")]
mod manifest_http;
#[cfg(feature = "manifest")]
mod manifest_rates;
#[cfg(feature = "manifest")]
mod manifest_reload;
#[cfg(feature = "manifest")]
mod manifest_syntax;
#[cfg(feature = "manifest")]
mod manifest_warnings;
#[cfg(feature = "metrics")]
mod metrics;
mod observed;
#[cfg(feature = "async")]
mod offload;
mod operation;
mod optional_cache;
mod password;
mod quota;
mod rate;
mod registry;
mod scheme;
#[cfg(feature = "serve")]
pub mod serve;
mod server;
mod server_address;
mod servers;
mod settings;
mod shutdown;
#[cfg(all(feature = "signals", unix))]
pub mod signals;
mod store_path;
mod store_url;
#[cfg(any(feature = "serve", all(feature = "admin", unix)))]
mod timed_stream;
mod transfer;
mod url_text;
mod wipe;

#[cfg(feature = "archive")]
pub use archive::{
    ExportError, Exported, ImportError, Imported, check_archive, export_store, import_archive,
};
pub use chain::create_component_storage;
pub use component_chain::{ComponentChain, ComponentUsage};
pub use component_config::ComponentConfig;
pub use grants::{Access, Grant, GrantedStorage};
pub use host::{ComponentSettings, StorageHost, StorageHostBuilder};
#[cfg(any(feature = "manifest", feature = "serve"))]
pub use http_settings::{HttpSettings, InvalidRoute, OutgoingHost, Route};
pub use limits::{LimitedStorage, Limits};
#[cfg(feature = "manifest")]
pub use manifest::{Manifest, ManifestComponent, ManifestError};
#[cfg(feature = "manifest")]
pub use manifest_warnings::ManifestWarning;
#[cfg(all(feature = "metrics", feature = "async"))]
pub use metrics::OffloadMetrics;
#[cfg(feature = "metrics")]
pub use metrics::{
    ComponentMetrics, LatencyHistogram, Metrics, OperationMetrics, PROMETHEUS_CONTENT_TYPE,
};
#[cfg(feature = "tracing")]
pub use observed::CALL_TARGET;
#[cfg(feature = "async")]
pub use offload::{BriefReads, Offload};
pub use operation::{Operation, Outcome};
pub use password::hide_passwords;
pub use quota::QuotaStorage;
pub use rate::{InvalidRateLimit, RateLimit};
pub use registry::StoreRegistry;
pub use scheme::{Inspection, Location, Mode, Needs, Scheme, Setting};
pub use server::Server;
pub use server_address::ServerAddress;
pub use servers::Servers;
pub use settings::{Applied, HostSettings, SettingChange};
pub use store_url::{StoreUrl, StoreUrlError};
pub use transfer::component::SettingsOf;
pub use transfer::error::{CopyError, OverQuota};
pub use transfer::{Copied, CopyOptions, copy_store};

pub use storage_cache::{
    CacheConfig, CacheStats, CachedStorage, Clock, CoherenceStats, DEFAULT_MAX_STALENESS,
    ManualClock, SharedCache,
};
pub use storage_core::{
    Budget, Change, Commit, Compacted, ComponentId, ComponentStorage, Durability,
    InvalidComponentId, KeyPage, NamespacedStorage, PageRequest, Problem, ProblemKind, Revision,
    SharedStore, SnapshotVisitor, StorageError, StorageValue, Store, StoreProperties, Usage,
    Verified, VersionedValue, Watcher, forward_storage, put, validate_key,
};

#[cfg(feature = "wasmtime")]
pub use {wasmtime, wasmtime_wasi};

/// The example of `docs/wasmtime-wasi-keyvalue.md`.
#[cfg(all(doctest, feature = "wasmtime", feature = "memory"))]
#[doc = include_str!("../../../docs/wasmtime-wasi-keyvalue.md")]
struct ForHostsOfWasmtimeWasiKeyvalue;
