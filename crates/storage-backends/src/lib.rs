//! Stores for WebAssembly components, each behind its own feature.
//!
//! Every store implements the whole contract of
//! [`ComponentStorage`](storage_core::ComponentStorage): ordered pages,
//! revisions, and atomic commits with checks and a budget.
//!
//! | feature | store | default |
//! |---|---|---|
//! | `memory` | `MemoryStorage`: in the memory of the process, lost when it ends | yes |
//! | `file` | `FileStorage`: one file for each key, durable | yes |
//! | `redb` | `RedbStorage`: one file, an engine in pure Rust, durable | yes |
//! | `postgres` | `PostgresStorage`: a schema of a PostgreSQL database, which several hosts share | no |
//! | `redis` | `RedisStorage`: a Redis or Valkey server, Sentinel or Cluster, which several hosts share | no |
//! | `rocksdb` | `RocksDbStorage`: an engine in C++, durable; its build needs libclang and takes minutes | no |

#![forbid(unsafe_code)]

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod access;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod changes;
#[cfg(any(feature = "memory", feature = "file"))]
mod component_index;
#[cfg(test)]
mod count_tests;
#[cfg(any(feature = "file", feature = "rocksdb"))]
mod disk;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod faults;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod file_system;
#[cfg(any(feature = "memory", feature = "file", feature = "redb", feature = "rocksdb"))]
mod first_revision;
#[cfg(any(feature = "postgres", feature = "redb"))]
mod group_commit;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod hooks;
#[cfg(any(
    feature = "file",
    feature = "postgres",
    feature = "redb",
    feature = "redis",
    feature = "rocksdb"
))]
mod identity;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod io_failure;
#[cfg(any(feature = "file", feature = "rocksdb"))]
mod key_locks;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod lock;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod lock_holder;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod locked_file;
#[cfg(feature = "memory")]
mod memory;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod password;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod permissions;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "file", feature = "redb", feature = "redis", feature = "rocksdb"))]
mod record;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod revision_blocks;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
mod store_path;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tcp;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod tls;

#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
pub use access::describe_access;
#[cfg(feature = "file")]
pub use file::{FileOptions, FileStorage};
#[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
pub use lock::look_for_writer;
#[cfg(feature = "memory")]
pub use memory::MemoryStorage;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use password::Password;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresReport, PostgresStorage, PostgresWarning};
#[cfg(feature = "redb")]
pub use redb::{RedbOptions, RedbStorage};
#[cfg(feature = "redis")]
pub use redis::{
    Deployment, RedisAddress, RedisOptions, RedisReport, RedisStorage, RedisWarning,
    SentinelDeployment,
};
#[cfg(feature = "rocksdb")]
pub use rocksdb::{RocksDbOptions, RocksDbStorage};
pub use storage_core::{Durability, Problem, ProblemKind, Verified};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub use tls::TlsMode;
