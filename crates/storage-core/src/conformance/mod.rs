//! The contract as test functions, and storage to test with.
//!
//! - [`run`] runs every [`Case`] of the suite on an [`Implementation`]. Authors of
//!   backends and decorators call it from their tests.
//! - [`ReferenceStorage`] is the contract in its simplest form.
//! - [`FailingStorage`], [`CountingStorage`] and [`SlowStorage`] wrap any storage
//!   to test what is built on it. [`RequiredMethods`] hides the provided methods.
//!
//! ```
//! use storage_core::conformance::{Feature, Implementation, ReferenceStorage, run};
//!
//! // A store in memory: each case opens a new one.
//! let report = run(&Implementation::store("reference", ReferenceStorage::new));
//! assert!(report.skipped.iter().all(|(_, missing)| *missing == Feature::Persistence));
//!
//! // The same below the layer that isolates components.
//! run(&Implementation::store("reference", ReferenceStorage::new).namespaced());
//! ```
//!
//! A persistent store is opened several times in the same directory:
//!
//! ```
//! # use storage_core::conformance::{Implementation, ReferenceStorage};
//! # struct TempDir(std::sync::Arc<ReferenceStorage>);
//! # fn tempdir() -> TempDir { TempDir(Default::default()) }
//! # struct MyStore;
//! # impl MyStore {
//! #     fn open(dir: &TempDir) -> std::sync::Arc<ReferenceStorage> { dir.0.clone() }
//! # }
//! let mine = Implementation::persistent("mine", || {
//!     let dir = tempdir();
//!     move || MyStore::open(&dir)
//! });
//! ```

mod cases;
mod faults;
mod implementation;
mod random;
mod reference;
mod required_methods;
mod subject;
mod suite;

pub use faults::{CountingStorage, FailingStorage, Fault, Held, Method, Moment, SlowStorage};
pub use implementation::{Feature, Implementation};
pub use reference::ReferenceStorage;
pub use required_methods::RequiredMethods;
pub use suite::{Case, Outcome, Report, cases, run};
