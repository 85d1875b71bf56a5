//! Commits as the arguments of the database's functions, and what these return.

use storage_core::{
    Budget, Check, Commit, Expected, Revision, StorageError, StorageValue, Write, split_full_key,
};
use tokio_postgres::Row;

use super::connection::Session;
use super::error::Failure;
use super::parameters::Bytes;

/// What one commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) revision: Revision,
    /// The components that it changed, with the revisions that they had before.
    pub(super) components: Vec<(String, Option<Revision>)>,
}

/// The outcome of one commit that the server has processed.
pub(super) type Outcome = Result<Committed, StorageError>;

/// The component prefixes of a commit, in byte order; `""` alone for a commit without keys.
pub(super) fn components(commit: &Commit) -> Vec<&str> {
    let mut found: Vec<&str> = commit.keys().map(|key| split_full_key(key).0).collect();
    found.sort_unstable();
    found.dedup();
    if found.is_empty() {
        found.push("");
    }
    found
}

/// The bytes of the values that a commit sends.
pub(super) fn value_bytes(commit: &Commit) -> usize {
    let checked = commit.checks.iter().map(|check| match &check.expected {
        Expected::Value(value) => value.len(),
        _ => 0,
    });
    let written = commit.writes.iter().map(|write| write.value.as_ref().map_or(0, |v| v.len()));
    checked.chain(written).sum()
}

/// The limits of a commit's budget; none for one that only deletes.
fn limits(commit: &Commit) -> Option<(i64, i64)> {
    let writes = commit.writes.iter().any(|write| write.value.is_some());
    let Budget { max_bytes, max_keys } = commit.budget.filter(|_| writes)?;
    // The counters are signed.
    let limit = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
    Some((limit(max_bytes), limit(max_keys)))
}

/// The only write of a commit without checks, which has a function of its own.
pub(super) fn single_write(commit: &Commit) -> Option<&Write> {
    match (&*commit.checks, &*commit.writes) {
        ([], [write]) => Some(write),
        _ => None,
    }
}

/// Applies a commit that is one write.
pub(super) async fn apply_write(
    session: &Session,
    write: &Write,
    commit: &Commit,
) -> Result<Outcome, Failure> {
    let (prefix, user_key) = split_full_key(&write.key);
    let value = write.value.as_ref().map(|value| Bytes(value.as_bytes()));
    let (max_bytes, max_keys) = limits(commit).unzip();
    let statement = &session.statements.write;
    let row = session
        .client
        .query_one(
            statement,
            &[
                &Bytes::from(prefix),
                &Bytes::from(user_key),
                &value,
                &max_bytes,
                &max_keys,
                &session.token(),
            ],
        )
        .await?;
    if row.try_get::<_, i32>(0)? != 0 {
        return Ok(Err(StorageError::QuotaExceeded));
    }
    let previous = row.try_get::<_, Option<i64>>(2)?.map(revision);
    Ok(Ok(Committed {
        revision: revision(row.try_get(1)?),
        components: vec![(prefix.to_owned(), previous)],
    }))
}

/// Applies commits that are one write each, all to one component, one after the other in one
/// transaction. Returns an outcome for each.
pub(super) async fn apply_writes(
    session: &Session,
    writes: &[(&Write, &Commit)],
) -> Result<Vec<Outcome>, Failure> {
    let prefix = writes.first().map_or("", |(write, _)| split_full_key(&write.key).0);
    let (mut keys, mut values, mut max_bytes, mut max_keys) = (vec![], vec![], vec![], vec![]);
    for (write, commit) in writes {
        keys.push(Bytes::from(split_full_key(&write.key).1));
        values.push(write.value.as_ref().map(bytes));
        let (bytes, keys) = limits(commit).unzip();
        max_bytes.push(bytes);
        max_keys.push(keys);
    }
    let name = Bytes::from(prefix);
    let row = session
        .client
        .query_one(
            &session.statements.write_many,
            &[&name, &keys, &values, &max_bytes, &max_keys, &session.token()],
        )
        .await?;
    let written: Vec<Option<i64>> = row.try_get(0)?;
    let mut previous = row.try_get::<_, Option<i64>>(1)?.map(revision);
    let outcome = |written: Option<i64>| match written.map(revision) {
        None => Err(StorageError::QuotaExceeded),
        Some(revision) => {
            let components = vec![(prefix.to_owned(), previous.replace(revision))];
            Ok(Committed { revision, components })
        }
    };
    Ok(written.into_iter().map(outcome).collect())
}

/// Applies commits one after the other in one transaction. Returns an outcome for each.
pub(super) async fn apply(session: &Session, commits: &[&Commit]) -> Result<Vec<Outcome>, Failure> {
    let arguments = Arguments::of(commits);
    let a = &arguments;
    let rows = session
        .client
        .query(
            &session.statements.commit,
            &[
                &a.names,
                &a.checks,
                &a.writes,
                &a.budgets,
                &a.max_bytes,
                &a.max_keys,
                &a.check_components,
                &a.check_keys,
                &a.check_kinds,
                &a.check_revisions,
                &a.check_values,
                &a.write_components,
                &a.write_keys,
                &a.write_values,
                &session.token(),
            ],
        )
        .await?;
    commits.iter().zip(&rows).map(|(commit, row)| a.outcome(commit, row)).collect()
}

/// The arrays that `commit_v1` takes.
#[derive(Default)]
struct Arguments<'c> {
    components: Vec<&'c str>,
    names: Vec<Bytes<'c>>,
    checks: Vec<i32>,
    writes: Vec<i32>,
    budgets: Vec<i32>,
    max_bytes: Vec<Option<i64>>,
    max_keys: Vec<Option<i64>>,
    check_components: Vec<i32>,
    check_keys: Vec<Bytes<'c>>,
    check_kinds: Vec<i32>,
    check_revisions: Vec<Option<i64>>,
    check_values: Vec<Option<Bytes<'c>>>,
    write_components: Vec<i32>,
    write_keys: Vec<Bytes<'c>>,
    write_values: Vec<Option<Bytes<'c>>>,
}

impl<'c> Arguments<'c> {
    fn of(commits: &[&'c Commit]) -> Self {
        let mut all: Vec<&str> = commits.iter().flat_map(|commit| components(commit)).collect();
        all.sort_unstable();
        all.dedup();
        let names = all.iter().map(|name| Bytes::from(*name)).collect();
        let mut arguments = Self { components: all, names, ..Self::default() };
        for commit in commits {
            arguments.add(commit);
        }
        arguments
    }

    fn add(&mut self, commit: &'c Commit) {
        for check in &commit.checks {
            self.add_check(check);
        }
        let writes = commit.effective_writes();
        for write in &writes {
            let (position, user_key) = self.locate(&write.key);
            self.write_components.push(position);
            self.write_keys.push(user_key.into());
            self.write_values.push(write.value.as_ref().map(bytes));
        }
        let limits = limits(commit);
        // The keys of a commit with a budget belong to one component.
        let first = commit.keys().next().unwrap_or_default();
        self.budgets.push(if limits.is_some() { self.locate(first).0 } else { 0 });
        let (max_bytes, max_keys) = limits.unzip();
        self.max_bytes.push(max_bytes);
        self.max_keys.push(max_keys);
        self.checks.push(count(commit.checks.len()));
        self.writes.push(count(writes.len()));
    }

    fn add_check(&mut self, check: &'c Check) {
        let (position, user_key) = self.locate(&check.key);
        let (kind, revision, value) = match &check.expected {
            Expected::Absent => (0, None, None),
            Expected::Present => (1, None, None),
            // No revision of the store is negative.
            Expected::Revision(wanted) => {
                (2, Some(i64::try_from(wanted.get()).unwrap_or(-1)), None)
            }
            Expected::Value(value) => (3, None, Some(bytes(value))),
        };
        self.check_components.push(position);
        self.check_keys.push(user_key.into());
        self.check_kinds.push(kind);
        self.check_revisions.push(revision);
        self.check_values.push(value);
    }

    /// The position of the component of a key, from 1, and its user key.
    fn locate(&self, key: &'c str) -> (i32, &'c str) {
        let (prefix, user_key) = split_full_key(key);
        let position = self.components.binary_search(&prefix).map_or(0, |at| at + 1);
        (count(position), user_key)
    }

    /// Reads a row that `commit_v1` returned.
    fn outcome(&self, commit: &Commit, row: &Row) -> Result<Outcome, Failure> {
        let status: i32 = row.try_get(0)?;
        if status == 0 {
            let previous: Vec<Option<i64>> = row.try_get(3)?;
            let before = |name: &str| {
                let at = self.components.binary_search(&name).ok()?;
                previous.get(at).copied().flatten().map(revision)
            };
            let mut changed: Vec<&str> =
                commit.writes.iter().map(|write| split_full_key(&write.key).0).collect();
            changed.sort_unstable();
            changed.dedup();
            if changed.is_empty() {
                // The revision of a commit without writes is in the first row of the call.
                changed.extend(self.components.first());
            }
            let components =
                changed.into_iter().map(|name| (name.to_owned(), before(name))).collect();
            return Ok(Ok(Committed { revision: revision(row.try_get(2)?), components }));
        }
        if status == 1 {
            return Ok(Err(StorageError::QuotaExceeded));
        }
        let failed: i32 = row.try_get(1)?;
        let at = usize::try_from(failed).unwrap_or_default().saturating_sub(1);
        let key = commit.checks.get(at).map(|check| check.key.clone()).unwrap_or_default();
        Ok(Err(match status {
            2 => StorageError::AlreadyExists(key),
            3 => StorageError::NotFound(key),
            _ => StorageError::Conflict(key),
        }))
    }
}

fn bytes(value: &StorageValue) -> Bytes<'_> {
    Bytes(value.as_bytes())
}

/// A number of elements. An array of the server has fewer than 2^31.
fn count(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// A revision as the database stores it.
pub(super) fn revision(stored: i64) -> Revision {
    Revision::new(u64::try_from(stored).unwrap_or_default())
}
