//! The atomic commit: checks, writes and a budget, all or nothing.

use crate::{Revision, StorageError, StorageValue, Usage, split_full_key};

/// Checks, writes and an optional budget, which
/// [`ComponentStorage::commit`](crate::ComponentStorage::commit) applies all or
/// nothing.
///
/// ```
/// use storage_core::Commit;
///
/// // Move a job from one queue to another, unless another worker took it.
/// let commit = Commit::new()
///     .require_value("queue/1/job", "pack".into())
///     .delete("queue/1/job")
///     .set("queue/2/job", "pack".into());
/// assert_eq!(commit.writes.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold before the writes.
    pub checks: Vec<Check>,
    /// The writes. Of several writes to one key the last one counts.
    pub writes: Vec<Write>,
    /// The maximum usage of the component after the commit.
    pub budget: Option<Budget>,
}

impl Commit {
    /// An empty commit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value under a key.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: StorageValue) -> Self {
        self.writes.push(Write { key: key.into(), value: Some(value) });
        self
    }

    /// Deletes a key. Deleting a missing key succeeds.
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

    /// Fails with [`StorageError::QuotaExceeded`] if the component would exceed
    /// the budget.
    #[must_use]
    pub fn with_budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    fn require(mut self, key: impl Into<String>, expected: Expected) -> Self {
        self.checks.push(Check { key: key.into(), expected });
        self
    }

    /// The keys of all checks and writes, with repetitions.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let checked = self.checks.iter().map(|check| check.key.as_str());
        checked.chain(self.writes.iter().map(|write| write.key.as_str()))
    }

    /// The component prefix that all keys of the commit have, as a budget
    /// requires; `""` for unscoped keys or without keys.
    ///
    /// Backends call [`budgeted_component`](Self::budgeted_component).
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`] if the keys belong to more than one component.
    pub fn component_prefix(&self) -> Result<&str, StorageError> {
        let mut prefixes = self.keys().map(|key| split_full_key(key).0);
        let first = prefixes.next().unwrap_or_default();
        match prefixes.find(|prefix| *prefix != first) {
            None => Ok(first),
            Some(other) => Err(StorageError::InvalidKey(format!(
                "a commit with a budget must have keys of one component; \
                 this one has keys of {first:?} and {other:?}"
            ))),
        }
    }

    /// The writes to apply, ordered by key: the last one to each key.
    ///
    /// For backends.
    pub fn effective_writes(&self) -> Vec<&Write> {
        let mut writes: Vec<&Write> = self.writes.iter().collect();
        if writes.len() < 2 {
            return writes;
        }
        // A stable sort keeps the writes to one key in order.
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
    /// Compares the check with what is stored.
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

/// The state that a [`Check`] requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The key is absent; else [`StorageError::AlreadyExists`]. Absence has no
    /// revision: a key that was written and deleted in the meantime is absent again.
    Absent,
    /// The key is present; else [`StorageError::NotFound`].
    Present,
    /// The key is present and this revision wrote it; else
    /// [`StorageError::Conflict`]. Every write has a new revision, so there is no
    /// ABA problem.
    Revision(Revision),
    /// The key is present with exactly this value; else
    /// [`StorageError::Conflict`].
    Value(StorageValue),
}

/// A change to one key.
///
/// Where `std::io::Write` is in scope too, import that trait as `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// Its new value, or `None` to delete it.
    pub value: Option<StorageValue>,
}

/// The maximum usage of a component after a commit.
///
/// The component is the one that the commit's keys belong to
/// ([`Commit::component_prefix`]). Bytes count user keys, without the component
/// prefix, and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The maximum number of bytes of user keys and values.
    pub max_bytes: u64,
    /// The maximum number of keys.
    pub max_keys: u64,
}

impl Budget {
    /// No limits.
    pub const UNLIMITED: Self = Self { max_bytes: u64::MAX, max_keys: u64::MAX };

    /// Checks a change of usage from `before` to `after`.
    ///
    /// A count that does not grow is always allowed, so that a component above a
    /// lowered budget can still delete keys and shrink values.
    ///
    /// # Errors
    /// [`StorageError::QuotaExceeded`] if a count grows beyond its limit.
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
    fn a_budget_refuses_growth_only() {
        let budget = Budget { max_bytes: 10, max_keys: 2 };
        let usage = |bytes, keys| Usage { bytes, keys };
        assert!(budget.allow(usage(0, 0), usage(10, 2)).is_ok());
        assert!(budget.allow(usage(0, 0), usage(11, 1)).is_err());
        assert!(budget.allow(usage(0, 2), usage(1, 3)).is_err());
        // Usage that is already above the budget may stay or shrink.
        assert!(budget.allow(usage(50, 9), usage(40, 9)).is_ok());
        assert!(budget.allow(usage(50, 9), usage(51, 8)).is_err());
        assert!(budget.allow(usage(u64::MAX, 1), usage(u64::MAX, 1)).is_ok());
    }

    #[test]
    fn the_last_write_to_each_key_counts() {
        let commit = Commit::new().set("b", "1".into()).set("a", "2".into()).delete("b");
        let expected = [("a", Some("2".into())), ("b", None)];
        let writes = commit.effective_writes();
        let found: Vec<_> = writes.iter().map(|one| (&*one.key, one.value.clone())).collect();
        assert_eq!(found, expected);
    }
}
