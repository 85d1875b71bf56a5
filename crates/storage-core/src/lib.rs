//! Isolated key-value storage for WebAssembly components: the contract.
//!
//! A host runs many components. Each calls `get("user:123")` and must see only
//! its own data. Every layer implements one trait, [`ComponentStorage`]; the
//! innermost one is a whole [`Store`]:
//!
//! ```text
//! NamespacedStorage  ->  CachedStorage  ->  a store
//! ```
//!
//! This crate has the traits, their types, the layer that isolates components
//! ([`NamespacedStorage`]) and, behind a feature, a conformance suite for any
//! implementation. It depends only on std.
//!
//! | feature | adds |
//! |---|---|
//! | `conformance` | the module `conformance`: the contract as test functions, a reference implementation, and storage that fails, counts and waits on command |

#![forbid(unsafe_code)]

mod commit;
mod compacted;
mod component_id;
#[cfg(feature = "conformance")]
pub mod conformance;
mod derived;
mod durability;
mod error;
mod evaluation;
#[macro_use]
mod forward;
mod key;
mod listing;
mod namespaced;
mod revision;
mod shared_store;
mod storage;
mod store;
mod usage;
mod value;
mod verify;

pub use commit::{Budget, Check, Commit, Expected, Write};
pub use compacted::Compacted;
pub use component_id::{ComponentId, InvalidComponentId};
pub use durability::Durability;
pub use error::StorageError;
pub use evaluation::{CommitView, Evaluation, UsageChange};
pub use key::{
    MAX_FULL_KEY_BYTES, MAX_KEY_BYTES, MAX_SEGMENT_BYTES, join_key, split_full_key,
    validate_full_key, validate_key,
};
pub use listing::{KeyPage, PageRequest};
pub use namespaced::NamespacedStorage;
pub use revision::{Revision, VersionedValue};
pub use shared_store::{Change, SharedStore, Watcher};
pub use storage::{ComponentStorage, put};
pub use store::{SnapshotVisitor, Store, StoreProperties};
pub use usage::Usage;
pub use value::StorageValue;
pub use verify::{Problem, ProblemKind, Verified};
