//! The contract as test functions, and storage to test with.
//!
//! - [`run`] runs every [`Case`] of the suite on an [`Implementation`]. Authors of
//!   backends and decorators call it from their tests.
//! - [`ReferenceStorage`] is the contract in its simplest form.
//! - [`FailingStorage`], [`CountingStorage`] and [`BlockingStorage`] wrap any storage
//!   to test what is built on it. [`RequiredMethods`] hides the provided methods.
//! - [`SharedReference`] is one store for several hosts, with notices that arrive on command.
//!
//! ```
//! use storage_core::conformance::{Feature, Implementation, ReferenceStorage, run};
//!
//! // A store in memory: each case opens a new one.
//! let report = run(&Implementation::store("reference", ReferenceStorage::new));
//! let by_design = [Feature::Persistence, Feature::SeveralHosts];
//! assert!(report.skipped.iter().all(|(_, missing)| by_design.contains(missing)));
//!
//! // The same below the layer that isolates components.
//! run(&Implementation::store("reference", ReferenceStorage::new).namespaced());
//! ```
//!
//! A persistent store is opened several times in the same directory:
//! [`Implementation::persistent`]. If several hosts can use it at once, say so with
//! [`Implementation::several_hosts`].
//!
//! The suite only opens stores, calls them and drops them. It does not test:
//!
//! - the store lock, and that files of another kind or format are refused;
//! - that revisions continue at the clock after an opening;
//! - durability: what a killed process, a power cut or [`flush`](crate::Store::flush) leaves;
//! - writes after a failed write, and errors of the disk;
//! - damage, in `get`, when the store is opened and in `verify`, and ends that a crash cut off;
//! - the cost of pages, and that `try_get` does not wait for I/O.

mod cases;
mod faults;
mod implementation;
mod random;
mod reference;
mod required_methods;
mod shared;
mod subject;
mod suite;

pub use faults::{BlockingStorage, CountingStorage, FailingStorage, Fault, Held, Method, Moment};
pub use implementation::{Feature, Implementation};
pub use reference::ReferenceStorage;
pub use required_methods::RequiredMethods;
pub use shared::{HostConnection, SharedReference};
pub use suite::{Case, Outcome, Report, cases, run};
