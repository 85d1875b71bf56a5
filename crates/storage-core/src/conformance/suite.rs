//! Running the cases and reporting.

use std::any::Any;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::cases::GROUPS;
use super::subject::Subject;
use super::{Feature, Implementation};

/// One sentence of the contract, and the test of it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub(super) name: &'static str,
    pub(super) needs: &'static [Feature],
    pub(super) test: fn(&Subject<'_>),
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The implementation does what the case says.
    Passed,
    /// The case needs a feature that the implementation says it lacks.
    Skipped(Feature),
    /// The implementation does something else. Payload: what was expected and
    /// what was found.
    Failed(String),
}

impl Case {
    /// What the implementation must do, as an identifier.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What the implementation must have for the case to mean anything.
    pub fn needs(&self) -> &'static [Feature] {
        self.needs
    }

    /// Runs the case in a place of its own. A failure is returned; it also shows
    /// as a panic on standard error, where the line that noticed it stands.
    pub fn run(&self, implementation: &Implementation) -> Outcome {
        if let Some(lacking) = self.needs.iter().find(|feature| !implementation.has(**feature)) {
            return Outcome::Skipped(*lacking);
        }
        let test = || (self.test)(&Subject::new(implementation));
        // What the case worked on is dropped with it, so nothing that a panic
        // left half done is seen again.
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

/// What a run of the suite found. Nothing failed, or there would be no report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The names of the cases that passed.
    pub passed: Vec<&'static str>,
    /// The cases that were skipped, each with the feature that is lacking.
    pub skipped: Vec<(&'static str, Feature)>,
}

/// Every case of the suite.
///
/// ```
/// use storage_core::conformance::{Implementation, Outcome, ReferenceStorage, cases};
///
/// let reference = Implementation::new("reference", ReferenceStorage::new);
/// let case = cases().find(|case| case.name() == "a_missing_key_is_none").ok_or("no such case")?;
/// assert_eq!(case.run(&reference), Outcome::Passed);
/// # Ok::<(), &str>(())
/// ```
pub fn cases() -> impl Iterator<Item = &'static Case> {
    GROUPS.iter().copied().flatten()
}

/// Runs every case and prints which were skipped, and why.
///
/// # Panics
/// If a case fails: with the names of all that did, and what each of them
/// expected and found.
///
/// ```
/// use storage_core::conformance::{Implementation, ReferenceStorage, run};
///
/// let report = run(&Implementation::new("reference", ReferenceStorage::new));
/// assert!(report.passed.contains(&"keys_are_listed_in_ascending_byte_order"));
/// ```
#[expect(clippy::print_stdout, reason = "a skipped case must be seen in the test's output")]
#[expect(clippy::panic, reason = "the suite reports by panicking, as a test does")]
pub fn run(implementation: &Implementation) -> Report {
    let mut report = Report::default();
    let mut failures = String::new();
    for case in cases() {
        match case.run(implementation) {
            Outcome::Passed => report.passed.push(case.name),
            Outcome::Skipped(feature) => {
                println!("SKIPPED {}: {} {feature}", case.name, implementation.name());
                report.skipped.push((case.name, feature));
            }
            Outcome::Failed(message) => {
                let _ = write!(failures, "\n  {}: {message}", case.name);
            }
        }
    }
    if !failures.is_empty() {
        panic!("{} does not keep the contract:{failures}", implementation.name());
    }
    report
}
