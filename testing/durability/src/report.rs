//! What was found.

use std::collections::BTreeMap;
use std::fmt;

/// How many findings of a kind are described.
const SHOWN: usize = 6;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An acknowledged write is missing.
    Lost,
    /// A value was never written.
    Torn,
    /// A commit was applied in part.
    Partial,
    /// A revision was not above all earlier ones.
    Revision,
    /// A usage counter, or `usage`, differs from a recount.
    UsageCounter,
    /// A listing differs from the keys.
    Listing,
    /// The store reported corruption.
    Corrupt,
    /// The store, or a key, cannot be read.
    Unreadable,
    /// The store broke its contract.
    Contract,
    /// A call did not end in time.
    Hung,
    /// The process crashed.
    Died,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "lost",
            Self::Torn => "torn",
            Self::Partial => "partial commits",
            Self::Revision => "revisions reused",
            Self::UsageCounter => "wrong usage counters",
            Self::Listing => "wrong listings",
            Self::Corrupt => "reported corrupt",
            Self::Unreadable => "unreadable",
            Self::Contract => "contract violations",
            Self::Hung => "calls without end",
            Self::Died => "crashes",
        })
    }
}

/// The findings of a part of the suite.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Fault, u64>,
    texts: Vec<String>,
    /// The contexts that `texts` describes.
    shown: BTreeMap<Fault, Vec<String>>,
    /// The current step of the run, with which the texts begin.
    pub(crate) context: String,
}

impl Findings {
    pub(crate) fn add(&mut self, fault: Fault, text: String) {
        *self.counts.entry(fault).or_default() += 1;
        let shown = self.shown.entry(fault).or_default();
        if shown.len() < SHOWN && shown.last() != Some(&self.context) {
            shown.push(self.context.clone());
            self.texts.push(format!("{}: {fault}: {text}", self.context));
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The number of findings that are not of these kinds.
    pub(crate) fn other_than(&self, allowed: &[Fault]) -> u64 {
        self.counts.iter().filter(|(fault, _)| !allowed.contains(fault)).map(|(_, n)| n).sum()
    }

    /// The first findings of each kind, one per context.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Prints the findings, and why they make the part fail.
    pub(crate) fn fail(&self, why: &str) -> Outcome {
        self.texts.iter().for_each(|text| println!("    {text}"));
        println!("    FAILED: {why}");
        Outcome::Failed
    }
}

impl fmt::Display for Findings {
    /// The first four kinds always, the others if there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let always = [Fault::Lost, Fault::Torn, Fault::Partial, Fault::Revision];
        let mut separator = "";
        for fault in always {
            write!(f, "{separator}{} {fault}", self.count(fault))?;
            separator = ", ";
        }
        for (fault, count) in self.counts.iter().filter(|(fault, _)| !always.contains(fault)) {
            write!(f, ", {count} {fault}")?;
        }
        Ok(())
    }
}

/// How a part of the suite ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// The machine cannot run it.
    Skipped,
}

impl Outcome {
    /// Failed if one of both failed.
    pub(crate) fn and(self, other: Self) -> Self {
        if other == Self::Failed { other } else { self }
    }
}
