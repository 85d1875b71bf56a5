//! What a check of a whole store finds.

use std::fmt;

use storage_core::Usage;

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProblemKind {
    /// Something of the store is wrong: a value, a counter, a file or its name.
    #[default]
    Damage,
    /// A file or directory in the store that is not part of it. The store ignores
    /// it.
    ForeignFile,
    /// Files or directories of the store whose mode lets other users in.
    Permissions,
}

impl ProblemKind {
    /// Its name in JSON: `damage`, `foreign_file` or `permissions`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::ForeignFile => "foreign_file",
            Self::Permissions => "permissions",
        }
    }

    /// Whether the store works as it should all the same.
    pub const fn is_warning(self) -> bool {
        !matches!(self, Self::Damage)
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something in a store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// Where: a path, or a part of the store by its name.
    pub place: String,
    /// The full key that it concerns, where there is one.
    pub key: Option<String>,
    /// What is wrong, and what to do if something helps.
    pub detail: String,
}

impl Problem {
    /// Damage at a place.
    pub fn new(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind: ProblemKind::Damage, place: place.into(), key: None, detail: detail.into() }
    }

    /// The same with the full key that it concerns.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same as another kind of problem.
    #[must_use]
    pub fn with_kind(mut self, kind: ProblemKind) -> Self {
        self.kind = kind;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{}: key {key:?}: {}", self.place, self.detail),
            None => write!(f, "{}: {}", self.place, self.detail),
        }
    }
}

/// What a check of a whole store has read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The keys that are whole, and the bytes of these full keys and their
    /// values.
    pub usage: Usage,
    /// The partitions that hold a key: the number of components.
    pub partitions: u64,
    /// How many problems of the kind [`ProblemKind::Damage`] were found.
    pub problems: u64,
    /// How many problems of other kinds were found.
    pub warnings: u64,
}

impl Verified {
    /// Counts a problem.
    #[cfg(any(feature = "file", feature = "redb", feature = "rocksdb"))]
    pub(crate) fn count(&mut self, problem: &Problem) {
        let count = if problem.kind.is_warning() { &mut self.warnings } else { &mut self.problems };
        *count += 1;
    }
}
