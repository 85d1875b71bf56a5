//! The cases, each named after the statement that it tests.

mod budgets;
mod commits;
mod components;
mod concurrency;
mod keys;
mod listing;
mod missing_features;
mod model;
mod pages;
mod reads_writes;
mod reopening;
mod revisions;
mod several_hosts;
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
    components::CASES,
    usage::CASES,
    snapshots::CASES,
    missing_features::CASES,
    revisions::CASES,
    commits::CASES,
    budgets::CASES,
    reopening::CASES,
    several_hosts::CASES,
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
