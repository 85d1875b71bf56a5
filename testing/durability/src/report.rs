//! What was found, and how it is told.

use std::collections::BTreeMap;
use std::fmt;

/// In how many places findings of a kind are worth reading about.
const SHOWN: usize = 6;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// An acknowledged write is not there.
    Lost,
    /// A value that nobody wrote.
    Torn,
    /// A part of a commit.
    Partial,
    /// A revision that was given before, or is smaller than one.
    Revision,
    /// A ledger, or a usage, that a recount does not confirm.
    Ledger,
    /// A listing that does not agree with the keys.
    Listing,
    /// The store told that something is corrupt.
    Corrupt,
    /// The store, or a key, cannot be read.
    Unreadable,
    /// The store answered what its contract does not allow.
    Contract,
    /// The process died, or panicked.
    Died,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lost => "lost",
            Self::Torn => "torn",
            Self::Partial => "partial commits",
            Self::Revision => "revisions reused",
            Self::Ledger => "wrong ledgers",
            Self::Listing => "wrong listings",
            Self::Corrupt => "told corrupt",
            Self::Unreadable => "unreadable",
            Self::Contract => "wrong answers",
            Self::Died => "deaths",
        })
    }
}

/// What a run found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    counts: BTreeMap<Fault, u64>,
    texts: Vec<String>,
    /// The places that the texts tell of.
    told: BTreeMap<Fault, Vec<String>>,
    /// What the texts begin with: where in the run they belong.
    pub(crate) place: String,
}

impl Findings {
    pub(crate) fn add(&mut self, fault: Fault, text: String) {
        *self.counts.entry(fault).or_default() += 1;
        let places = self.told.entry(fault).or_default();
        if places.len() < SHOWN && places.last() != Some(&self.place) {
            places.push(self.place.clone());
            self.texts.push(format!("{}: {fault}: {text}", self.place));
        }
    }

    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).copied().unwrap_or(0)
    }

    pub(crate) fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there are besides those of these kinds.
    pub(crate) fn besides(&self, allowed: &[Fault]) -> u64 {
        self.counts.iter().filter(|(fault, _)| !allowed.contains(fault)).map(|(_, n)| n).sum()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (fault, count) in other.counts {
            *self.counts.entry(fault).or_default() += count;
        }
        for (fault, places) in other.told {
            let told = self.told.entry(fault).or_default();
            if told.len() < SHOWN {
                told.extend(places);
                self.texts.extend(other.texts.iter().cloned());
            }
        }
    }

    /// One finding of a kind for each of the first places, a line each.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl fmt::Display for Findings {
    /// The four numbers that always count, and the others where they are not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let always = [Fault::Lost, Fault::Torn, Fault::Partial, Fault::Revision];
        let mut separator = "";
        for fault in always {
            write!(f, "{separator}{} {fault}", self.count(fault))?;
            separator = ", ";
        }
        for (fault, count) in &self.counts {
            if !always.contains(fault) {
                write!(f, ", {count} {fault}")?;
            }
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
