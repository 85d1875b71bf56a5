//! What the comparisons have in common: how two sides are measured, and how it
//! is shown. `cargo xtask bench --help` names the comparisons.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command reports to its user")]

pub mod caches;
pub mod keys;
pub mod machine;
pub mod measure;
pub mod report;
pub mod traces;

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// All of it.
    Full,
    /// As little as shows that it works.
    Quick,
}

impl Size {
    /// One number or the other.
    pub fn pick(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
