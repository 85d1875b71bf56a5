//! The contract of isolated key-value storage for WebAssembly components.
//!
//! A host runs many components; each calls `get("user:123")` and must see its
//! own data only. Every layer on the way down implements one trait,
//! [`ComponentStorage`]:
//!
//! ```text
//! NamespacedStorage  ->  CachedStorage  ->  a backend
//! ```
//!
//! This crate has the trait, its types, the layer that isolates
//! ([`NamespacedStorage`]) and, behind a feature, the suite that tests any
//! implementation. It depends on nothing but std.
//!
//! | feature | brings |
//! |---|---|
//! | `conformance` | the module `conformance`: the contract as test functions, a reference implementation, and storage that fails, counts and waits on command |

#![forbid(unsafe_code)]

mod commit;
mod component_id;
#[cfg(feature = "conformance")]
pub mod conformance;
mod derived;
mod error;
mod key;
mod listing;
mod namespaced;
mod revision;
mod storage;
mod usage;
mod value;

pub use commit::{Budget, Check, Commit, Expected, Write};
pub use component_id::{ComponentId, InvalidComponentId, MAX_SEGMENT_BYTES};
pub use derived::partitions_from_listing;
pub use error::StorageError;
pub use key::{MAX_FULL_KEY_BYTES, MAX_KEY_BYTES, split_full_key, validate_full_key, validate_key};
pub use listing::{KeyPage, PageRequest};
pub use namespaced::NamespacedStorage;
pub use revision::{Revision, VersionedValue};
pub use storage::{ComponentStorage, SnapshotVisitor};
pub use usage::Usage;
pub use value::StorageValue;
