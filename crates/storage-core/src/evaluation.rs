//! What a commit does to a store, computed in one place for every backend.

use crate::{
    Budget, Commit, StorageError, StorageValue, Usage, VersionedValue, Write, split_full_key,
};

/// What a backend provides to [`Commit::evaluate`].
///
/// A backend applies a commit in this order:
///
/// 1. Validate the keys of all checks and writes: [`Commit::keys`],
///    [`validate_full_key`](crate::validate_full_key).
/// 2. [`Commit::budgeted_component`], which refuses a budget for several components.
/// 3. Lock the keys, and the usage of the budget's component, until the writes are visible.
/// 4. [`Commit::evaluate`], which runs the checks.
/// 5. With a budget, [`UsageChange::apply`] to the usage of its component.
/// 6. Take the next revision, also for a commit without writes.
/// 7. Make all of [`Evaluation::writes`] durable and then visible, with that revision, and
///    return it.
///
/// Up to step 5 an error changes nothing. The methods take `&mut self` so that a view can be
/// a transaction. Data behind a lock is a view by reference:
///
/// ```
/// # use std::collections::BTreeMap;
/// # use std::sync::Mutex;
/// # use storage_core::{Commit, CommitView, Revision, StorageError, UsageChange, VersionedValue};
/// struct State {
///     keys: BTreeMap<String, VersionedValue>,
/// }
///
/// impl CommitView for &State {
///     type Error = StorageError;
///
///     fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
///         Ok(self.keys.get(key).cloned())
///     }
/// }
///
/// let state = Mutex::new(State { keys: BTreeMap::new() });
/// let commit = Commit::new().require_absent("a").set("a", "12".into());
/// let mut state = state.lock().unwrap();
/// let evaluation = commit.evaluate(&mut &*state)?;
/// // The evaluation borrows the commit alone, so the state can be changed.
/// for write in evaluation.writes {
///     if let Some(value) = write.value.clone() {
///         let found = VersionedValue { value, revision: Revision::new(1) };
///         state.keys.insert(write.key.clone(), found);
///     }
/// }
/// assert_eq!(evaluation.changes, [("", UsageChange::of("a", None, Some(2)))]);
/// # Ok::<(), StorageError>(())
/// ```
pub trait CommitView {
    /// The backend's own error.
    type Error: From<StorageError>;

    /// Reads a key for a check.
    ///
    /// # Errors
    /// Those of [`ComponentStorage::get_versioned`](crate::ComponentStorage::get_versioned).
    fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, Self::Error>;

    /// Reads the length of the value of a key that the commit writes.
    ///
    /// The default reads the value. Override it if the length is cheaper, or so that a
    /// damaged value can be replaced and deleted: the length need not be verified.
    ///
    /// # Errors
    /// Those of [`find`](Self::find).
    fn value_len(&mut self, key: &str) -> Result<Option<usize>, Self::Error> {
        Ok(self.find(key)?.map(|found| found.value.len()))
    }

    /// Returns whether the change of a component's usage is needed: for a budget
    /// ([`Commit::budgeted_component`]) or for a usage counter. Otherwise
    /// [`value_len`](Self::value_len) is not called for its keys. The default, `true`, is
    /// always correct.
    ///
    /// # Errors
    /// Those of reading the usage counter.
    fn is_counted(&mut self, _component_prefix: &str) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// What a commit does, once its checks have passed.
#[derive(Debug)]
pub struct Evaluation<'c> {
    /// The writes to apply, ordered by key: the last one to each key.
    pub writes: Vec<&'c Write>,
    /// How the usage of each counted component changes.
    pub changes: Vec<(&'c str, UsageChange)>,
}

/// How writes change the usage of a component, in user keys and their values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageChange {
    /// What the writes add.
    pub added: Usage,
    /// What the writes replace or delete.
    pub removed: Usage,
}

impl UsageChange {
    /// The change by one write, from the lengths of the old and the new value.
    pub fn of(user_key: &str, old_len: Option<usize>, new_len: Option<usize>) -> Self {
        let usage =
            |len: Option<usize>| len.map_or_else(Usage::default, |len| Usage::of(user_key, len));
        Self { added: usage(new_len), removed: usage(old_len) }
    }

    /// The usage after the change. `before` is that of the component alone, with
    /// user keys. The numbers stay between 0 and [`u64::MAX`].
    ///
    /// Cannot fail without a budget. A usage counter is updated without a `Result` by
    /// `before + change.added - change.removed`.
    ///
    /// # Errors
    /// [`StorageError::QuotaExceeded`] if the budget does not allow it.
    pub fn apply(self, before: Usage, budget: Option<&Budget>) -> Result<Usage, StorageError> {
        let after = before + self.added - self.removed;
        budget.map_or(Ok(()), |budget| budget.allow(before, after))?;
        Ok(after)
    }

    /// How much bytes and keys grow; zero where they do not.
    pub fn growth(self) -> Usage {
        self.added - self.removed
    }

    /// How much bytes and keys shrink; zero where they do not.
    pub fn shrinkage(self) -> Usage {
        self.removed - self.added
    }
}

impl std::ops::Add for UsageChange {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { added: self.added + other.added, removed: self.removed + other.removed }
    }
}

impl Evaluation<'_> {
    /// The change of one component's usage; none if it is not counted.
    pub fn change(&self, component_prefix: &str) -> UsageChange {
        let found = self.changes.iter().find(|(prefix, _)| *prefix == component_prefix);
        found.map(|(_, change)| *change).unwrap_or_default()
    }
}

impl Commit {
    /// Runs the checks in order, and computes the writes to apply and how usage
    /// changes. Does not validate keys. [`CommitView`] says what to do before and after.
    ///
    /// # Errors
    /// [`StorageError::AlreadyExists`], [`StorageError::NotFound`] or
    /// [`StorageError::Conflict`] of the first failed check; those of the view.
    pub fn evaluate<V: CommitView>(&self, view: &mut V) -> Result<Evaluation<'_>, V::Error> {
        for check in &self.checks {
            let found = view.find(&check.key)?;
            check.verify(found.as_ref().map(|found| (&found.value, found.revision)))?;
        }
        let writes = self.effective_writes();
        let mut changes: Vec<(&str, UsageChange)> = Vec::new();
        for write in &writes {
            let (component, user_key) = split_full_key(&write.key);
            if !view.is_counted(component)? {
                continue;
            }
            let new_len = write.value.as_ref().map(StorageValue::len);
            let change = UsageChange::of(user_key, view.value_len(&write.key)?, new_len);
            // The writes are in key order, so those of one component are mostly adjacent.
            match changes.iter_mut().rev().find(|(prefix, _)| *prefix == component) {
                Some((_, total)) => *total = *total + change,
                None => changes.push((component, change)),
            }
        }
        Ok(Evaluation { writes, changes })
    }

    /// The component prefix whose usage the budget needs, `""` for unscoped keys;
    /// `None` without a budget, or if the commit only deletes, which no budget
    /// prevents. Backends call it before the checks.
    ///
    /// # Errors
    /// [`StorageError::InvalidKey`] if there is a budget and the keys belong to
    /// more than one component.
    pub fn budgeted_component(&self) -> Result<Option<&str>, StorageError> {
        if self.budget.is_none() {
            return Ok(None);
        }
        let component = self.component_prefix()?;
        Ok(self.writes.iter().any(|write| write.value.is_some()).then_some(component))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Revision;

    struct View {
        values: BTreeMap<&'static str, &'static str>,
        counted: &'static [&'static str],
    }

    impl CommitView for View {
        type Error = StorageError;

        fn find(&mut self, key: &str) -> Result<Option<VersionedValue>, StorageError> {
            let versioned = |value: &&str| VersionedValue {
                value: (*value).into(),
                revision: Revision::new(1),
            };
            Ok(self.values.get(key).map(versioned))
        }

        fn value_len(&mut self, key: &str) -> Result<Option<usize>, StorageError> {
            Ok(self.values.get(key).map(|value| value.len()))
        }

        fn is_counted(&mut self, component_prefix: &str) -> Result<bool, StorageError> {
            Ok(self.counted.contains(&component_prefix))
        }
    }

    #[test]
    fn changes_are_summed_for_each_counted_component() {
        let values = BTreeMap::from([("a/b/c/k", "123"), ("x", "12"), ("d/e/f/k", "1")]);
        let mut view = View { values, counted: &["", "a/b/c/"] };
        let commit = Commit::new()
            .require_present("a/b/c/k")
            .set("a/b/c/k", "1".into())
            .set("a", "new".into())
            .delete("x")
            .delete("a/b/c/missing")
            .set("d/e/f/k", "12345".into());
        let evaluation = commit.evaluate(&mut view).unwrap();
        assert_eq!(evaluation.writes.len(), 5);
        let usage = |bytes, keys| Usage { bytes, keys };
        let unscoped = UsageChange { added: usage(4, 1), removed: usage(3, 1) };
        let scoped = UsageChange { added: usage(2, 1), removed: usage(4, 1) };
        assert_eq!(evaluation.changes, [("", unscoped), ("a/b/c/", scoped)]);
        assert_eq!(evaluation.change("d/e/f/"), UsageChange::default());
        assert_eq!((scoped.growth(), scoped.shrinkage()), (usage(0, 0), usage(2, 0)));
    }

    #[test]
    fn deletes_need_no_usage() {
        let budget = |commit: Commit| commit.with_budget(Budget::UNLIMITED);
        let set = Commit::new().set("a/b/c/k", "".into());
        assert_eq!(set.budgeted_component(), Ok(None));
        assert_eq!(budget(set).budgeted_component(), Ok(Some("a/b/c/")));
        assert_eq!(budget(Commit::new().delete("a/b/c/k")).budgeted_component(), Ok(None));
        let two = Commit::new().set("a/b/c/k", "".into()).delete("d/e/f/k");
        assert!(budget(two).budgeted_component().is_err());
    }
}
