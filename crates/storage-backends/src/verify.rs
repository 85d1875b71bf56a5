//! What a check of a whole store finds.

use std::fmt;

use storage_core::Usage;

/// Something in a store that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Where: a path, or a part of the store by its name.
    pub place: String,
    /// The full key that it concerns, where there is one.
    pub key: Option<String>,
    /// What is wrong, and what to do if something helps.
    pub detail: String,
}

impl Problem {
    /// A problem at a place.
    pub fn new(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: place.into(), key: None, detail: detail.into() }
    }

    /// The same with the full key that it concerns.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
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
    /// How many problems were found.
    pub problems: u64,
}
