//! The cases, each named after the sentence that it checks.

mod budgets;
mod commits;
mod concurrency;
mod keys;
mod lacking;
mod lasting;
mod listing;
mod model;
mod pages;
mod partitions;
mod reads_writes;
mod revisions;
mod snapshots;
mod usage;

use super::subject::Subject;
use super::{Case, Feature};

/// Every case, by concept.
pub(super) const GROUPS: &[&[Case]] = &[
    reads_writes::CASES,
    keys::CASES,
    listing::CASES,
    pages::CASES,
    partitions::CASES,
    usage::CASES,
    snapshots::CASES,
    lacking::CASES,
    revisions::CASES,
    commits::CASES,
    budgets::CASES,
    lasting::CASES,
    concurrency::CASES,
    model::CASES,
];

/// A case whose name is that of its function.
macro_rules! case {
    ($test:ident) => {
        case!($test needs)
    };
    ($test:ident needs $($feature:ident),*) => {
        $crate::conformance::Case {
            name: stringify!($test),
            needs: &[$($crate::conformance::Feature::$feature),*],
            test: $test,
        }
    };
}
use case;
