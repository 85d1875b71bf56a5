//! The atomic commit: checks, writes and a budget, all or nothing.

use crate::{Revision, StorageError, StorageValue, Usage, split_full_key};

/// A list of checks, a list of writes and, optionally, a budget, which
/// [`ComponentStorage::commit`](crate::ComponentStorage::commit) applies all or
/// not at all.
///
/// ```
/// use storage_core::Commit;
///
/// // Move a job from one queue to another, unless somebody else took it.
/// let commit = Commit::new()
///     .require_value("queue/1/job", "pack".into())
///     .delete("queue/1/job")
///     .set("queue/2/job", "pack".into());
/// assert_eq!(commit.writes.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold just before the writes.
    pub checks: Vec<Check>,
    /// What changes. Of two writes to one key the later one counts.
    pub writes: Vec<Write>,
    /// What the component may use afterwards.
    pub budget: Option<Budget>,
}

impl Commit {
    /// A commit that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value under a key.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: StorageValue) -> Self {
        self.writes.push(Write { key: key.into(), value: Some(value) });
        self
    }

    /// Deletes a key; a missing one is no error.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.writes.push(Write { key: key.into(), value: None });
        self
    }

    /// Fails with [`StorageError::AlreadyExists`] unless the key is absent.
    #[must_use]
    pub fn require_absent(self, key: impl Into<String>) -> Self {
        self.require(key, Expected::Absent)
    }

    /// Fails with [`StorageError::NotFound`] unless the key is present.
    #[must_use]
    pub fn require_present(self, key: impl Into<String>) -> Self {
        self.require(key, Expected::Present)
    }

    /// Fails with [`StorageError::Conflict`] unless the key is present at this
    /// revision.
    #[must_use]
    pub fn require_revision(self, key: impl Into<String>, revision: Revision) -> Self {
        self.require(key, Expected::Revision(revision))
    }

    /// Fails with [`StorageError::Conflict`] unless the key has this value.
    #[must_use]
    pub fn require_value(self, key: impl Into<String>, value: StorageValue) -> Self {
        self.require(key, Expected::Value(value))
    }

    /// Fails with [`StorageError::QuotaExceeded`] if it would take the component
    /// above the budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    fn require(mut self, key: impl Into<String>, expected: Expected) -> Self {
        self.checks.push(Check { key: key.into(), expected });
        self
    }

    /// Every key that the commit reads or writes, as often as it is named.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let checked = self.checks.iter().map(|check| check.key.as_str());
        checked.chain(self.writes.iter().map(|write| write.key.as_str()))
    }

    /// The partition that all of the commit's keys lie in, as a budget needs it;
    /// `""` where there are no keys.
    ///
    /// For backends.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`] if the keys lie in more than one.
    pub fn single_partition(&self) -> Result<&str, StorageError> {
        let mut partitions = self.keys().map(|key| split_full_key(key).0);
        let first = partitions.next().unwrap_or_default();
        match partitions.find(|partition| *partition != first) {
            None => Ok(first),
            Some(other) => Err(StorageError::InvalidKey(format!(
                "a commit with a budget covers one component; this one has keys of {first:?} and {other:?}"
            ))),
        }
    }

    /// The writes that count, ordered by key: the last one to each key.
    ///
    /// For backends, which apply these.
    pub fn effective_writes(&self) -> Vec<&Write> {
        let mut writes: Vec<&Write> = self.writes.iter().collect();
        // Stable, so that the last write to a key comes last among its equals.
        writes.sort_by(|a, b| a.key.cmp(&b.key));
        let mut last: Vec<&Write> = Vec::with_capacity(writes.len());
        for write in writes {
            match last.last_mut() {
                Some(previous) if previous.key == write.key => *previous = write,
                _ => last.push(write),
            }
        }
        last
    }
}

/// What must hold for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The key.
    pub key: String,
    /// What must hold for it.
    pub expected: Expected,
}

impl Check {
    /// Compares with what is stored.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`], [`StorageError::NotFound`] or
    /// [`StorageError::Conflict`] with the key, as [`Expected`] says.
    pub fn verify(&self, found: Option<(&StorageValue, Revision)>) -> Result<(), StorageError> {
        match (&self.expected, found) {
            (Expected::Absent, None) | (Expected::Present, Some(_)) => Ok(()),
            (Expected::Absent, Some(_)) => Err(StorageError::AlreadyExists(self.key.clone())),
            (Expected::Present, None) => Err(StorageError::NotFound(self.key.clone())),
            (Expected::Revision(wanted), Some((_, revision))) if *wanted == revision => Ok(()),
            (Expected::Value(wanted), Some((value, _))) if wanted == value => Ok(()),
            (Expected::Revision(_) | Expected::Value(_), _) => {
                Err(StorageError::Conflict(self.key.clone()))
            }
        }
    }
}

/// The state that a [`Check`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The key is absent; else [`StorageError::AlreadyExists`]. Absence has no
    /// revision: a key that came and went meanwhile is absent again.
    Absent,
    /// The key is present; else [`StorageError::NotFound`].
    Present,
    /// The key is present and was last written by this revision; else
    /// [`StorageError::Conflict`]. A value written again has a new revision, so
    /// there is no ABA.
    Revision(Revision),
    /// The key is present with exactly this value; else
    /// [`StorageError::Conflict`].
    Value(StorageValue),
}

/// A change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// Its new value, or `None` to delete it.
    pub value: Option<StorageValue>,
}

/// What a component may use, in the component's own keys and their values.
///
/// The component is the partition that the commit's keys lie in
/// ([`split_full_key`](crate::split_full_key)), and bytes count its own keys
/// without the partition's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The most bytes of own keys and values.
    pub max_bytes: u64,
    /// The most keys.
    pub max_keys: u64,
}

impl Budget {
    /// No limit on either.
    pub const UNLIMITED: Self = Self { max_bytes: u64::MAX, max_keys: u64::MAX };

    /// Decides whether usage may go from `before` to `after`.
    ///
    /// A number that does not grow is never refused, so that a component above
    /// a lowered budget can still delete and shrink.
    ///
    /// # Errors
    /// [`StorageError::QuotaExceeded`] if a number grows to above its limit.
    pub fn allow(&self, before: Usage, after: Usage) -> Result<(), StorageError> {
        let too_many_bytes = after.bytes > before.bytes && after.bytes > self.max_bytes;
        let too_many_keys = after.keys > before.keys && after.keys > self.max_keys;
        if too_many_bytes || too_many_keys { Err(StorageError::QuotaExceeded) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_to_a_key_counts() {
        let commit = Commit::new()
            .set("b", "1".into())
            .set("a", "2".into())
            .delete("b")
            .set("a", "3".into());
        let writes = commit.effective_writes();
        assert_eq!(writes.len(), 2);
        assert_eq!((writes[0].key.as_str(), &writes[0].value), ("a", &Some("3".into())));
        assert_eq!((writes[1].key.as_str(), &writes[1].value), ("b", &None));
    }

    #[test]
    fn a_budget_stops_growth_alone() {
        let budget = Budget { max_bytes: 10, max_keys: 2 };
        let usage = |bytes, keys| Usage { bytes, keys };
        assert!(budget.allow(usage(0, 0), usage(10, 2)).is_ok());
        assert!(budget.allow(usage(0, 0), usage(11, 1)).is_err());
        assert!(budget.allow(usage(0, 2), usage(1, 3)).is_err());
        // Above it already: shrinking and standing still are allowed.
        assert!(budget.allow(usage(50, 9), usage(40, 9)).is_ok());
        assert!(budget.allow(usage(50, 9), usage(51, 8)).is_err());
        assert!(budget.allow(usage(u64::MAX, 1), usage(u64::MAX, 1)).is_ok());
    }
}
