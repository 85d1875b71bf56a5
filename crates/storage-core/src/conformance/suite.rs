//! Runs the cases and reports.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cases::GROUPS;
use super::subject::Subject;
use super::{Feature, Implementation};

/// A test of one statement of the contract.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub(super) name: &'static str,
    pub(super) needs: &'static [Feature],
    pub(super) test: fn(&Subject<'_>),
}

/// The result of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The implementation keeps this part of the contract.
    Passed,
    /// The case needs a feature that the implementation lacks.
    Skipped(Feature),
    /// The implementation violates it. Payload: what was expected and what was found.
    Failed(String),
}

impl Case {
    /// The statement that the case tests, in the form of an identifier.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The features that the case needs.
    pub fn needs(&self) -> &'static [Feature] {
        self.needs
    }

    /// Runs the case on a new storage. A failure is returned, and also printed to
    /// standard error as a panic with its line.
    pub fn run(&self, implementation: &Implementation) -> Outcome {
        if let Some(missing) = self.needs.iter().find(|feature| !implementation.has(**feature)) {
            return Outcome::Skipped(*missing);
        }
        let test = || (self.test)(&Subject::new(implementation));
        // The storage of the case is dropped with it, so nothing uses it after a panic.
        match catch_unwind(AssertUnwindSafe(test)) {
            Ok(()) => Outcome::Passed,
            Err(panic) => Outcome::Failed(message(&*panic)),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

/// The result of a run in which no case failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The names of the cases that passed.
    pub passed: Vec<&'static str>,
    /// The names of the skipped cases, each with the missing feature.
    pub skipped: Vec<(&'static str, Feature)>,
}

/// Every case of the suite.
///
/// ```
/// use storage_core::conformance::{Implementation, Outcome, ReferenceStorage, cases};
///
/// let reference = Implementation::store("reference", ReferenceStorage::new);
/// let case = cases().find(|case| case.name() == "a_missing_key_is_none").ok_or("no such case")?;
/// assert_eq!(case.run(&reference), Outcome::Passed);
/// # Ok::<(), &str>(())
/// ```
pub fn cases() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().copied().flatten()
}

/// Runs every case, and prints which were skipped and why.
///
/// A skipped case is not a fault: [`Implementation::namespaced`] always skips those of a
/// whole store.
///
/// # Panics
/// If a case fails, after all cases have run. The message lists all failed cases, and what
/// each expected and found.
///
/// ```
/// use storage_core::conformance::{Implementation, ReferenceStorage, run};
///
/// let report = run(&Implementation::store("reference", ReferenceStorage::new));
/// assert!(report.passed.contains(&"keys_are_listed_in_ascending_byte_order"));
/// ```
#[expect(clippy::print_stdout, reason = "skipped cases belong in the test's output")]
#[expect(clippy::panic, reason = "the suite reports by panicking, as a test does")]
pub fn run(implementation: &Implementation) -> Report {
    let mut report = Report::default();
    let mut failures = String::new();
    for case in cases() {
        match case.run(implementation) {
            Outcome::Passed => report.passed.push(case.name),
            Outcome::Skipped(feature) => {
                let absence = feature.describe_absence();
                println!("SKIPPED {}: {} {absence}", case.name, implementation.name());
                report.skipped.push((case.name, feature));
            }
            Outcome::Failed(message) => {
                let _ = write!(failures, "\n  {}: {message}", case.name);
            }
        }
    }
    if !failures.is_empty() {
        panic!("{} violates the contract:{failures}", implementation.name());
    }
    report
}
