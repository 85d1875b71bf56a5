//! What verifying a whole store finds.

use std::fmt;

use crate::Usage;

/// The kind of a [`Problem`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// A value, a counter, a file or a file name of the store is wrong.
    #[default]
    Damage,
    /// A file or directory in the store directory that does not belong to the
    /// store, which ignores it.
    ForeignFile,
    /// Files or directories of the store that other users can access.
    Permissions,
}

impl ProblemKind {
    /// The name in JSON: `damage`, `foreign_file` or `permissions`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::ForeignFile => "foreign_file",
            Self::Permissions => "permissions",
        }
    }

    /// Whether the store works correctly despite the problem.
    pub const fn is_warning(self) -> bool {
        !matches!(self, Self::Damage)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that verifying a store found: damage, or something harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// Where it is: a path, or the name of a part of the store.
    pub location: String,
    /// The full key that it concerns, if any.
    pub key: Option<String>,
    /// What is wrong, and what to do about it.
    pub detail: String,
}

impl Problem {
    /// Damage at a location.
    pub fn new(location: impl Into<String>, detail: impl Into<String>) -> Self {
        let location = location.into();
        Self { kind: ProblemKind::Damage, location, key: None, detail: detail.into() }
    }

    /// Sets the full key that it concerns.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ProblemKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: key {key:?}: {}", self.location, self.detail),
            None => write!(f, "{}: {}", self.location, self.detail),
        }
    }
}

/// What verifying a store has read.
///
/// A store starts with [`Verified::default`] and adds to it:
///
/// ```
/// use storage_core::{Problem, Usage, Verified};
///
/// let mut verified = Verified::default();
/// verified.components = 1;
/// verified.usage = verified.usage + Usage::of("app/notes/home/a", 5);
/// verified.count(&Problem::new("data.log", "bad checksum at offset 100; restore a backup"));
/// assert_eq!((verified.usage.bytes, verified.problems), (21, 1));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The undamaged keys, and the bytes of these full keys and their values.
    pub usage: Usage,
    /// The number of components that have a key. Unscoped keys are not counted.
    pub components: u64,
    /// The number of problems of kind [`ProblemKind::Damage`].
    pub problems: u64,
    /// The number of other problems.
    pub warnings: u64,
}

impl Verified {
    /// Counts a problem.
    pub fn count(&mut self, problem: &Problem) {
        let count = if problem.kind.is_warning() { &mut self.warnings } else { &mut self.problems };
        *count += 1;
    }
}
