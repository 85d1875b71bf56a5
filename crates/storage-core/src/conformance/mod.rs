//! What an implementation's own tests need: the contract as functions, and
//! storage to test against.
//!
//! - [`run`] runs every [`Case`] of the suite on an [`Implementation`]; an
//!   author of a backend calls it from his own tests.
//! - [`ReferenceStorage`] is the contract in its plainest form, for comparison.
//! - [`FailingStorage`], [`CountingStorage`] and [`SlowStorage`] stand around any
//!   storage, to test what is built upon it; [`FiveMethods`] leaves of one what its
//!   author must write.
//!
//! ```
//! use storage_core::conformance::{Feature, Implementation, ReferenceStorage, run};
//!
//! // A store that does not last: a new one for each case.
//! let report = run(&Implementation::new("reference", ReferenceStorage::new));
//! assert!(report.skipped.iter().all(|(_, lacking)| *lacking == Feature::Lasting));
//!
//! // The same under the layer that isolates components.
//! run(&Implementation::new("reference", ReferenceStorage::new).namespaced());
//! ```
//!
//! A store that lasts says where it lives, so that it can be opened again:
//!
//! ```
//! # use storage_core::conformance::{Implementation, ReferenceStorage};
//! # struct TempDir(std::sync::Arc<ReferenceStorage>);
//! # fn tempdir() -> TempDir { TempDir(Default::default()) }
//! # struct MyStorage;
//! # impl MyStorage {
//! #     fn open(dir: &TempDir) -> std::sync::Arc<ReferenceStorage> { dir.0.clone() }
//! # }
//! let mine = Implementation::lasting("mine", || {
//!     let dir = tempdir();
//!     move || MyStorage::open(&dir)
//! });
//! ```

mod cases;
mod faults;
mod five_methods;
mod implementation;
mod random;
mod reference;
mod subject;
mod suite;

pub use faults::{CountingStorage, FailingStorage, Fault, Held, Method, Moment, SlowStorage};
pub use five_methods::FiveMethods;
pub use implementation::{Feature, Implementation, Place};
pub use reference::ReferenceStorage;
pub use suite::{Case, Outcome, Report, cases, run};
