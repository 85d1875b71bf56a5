//! Commits as the arguments of the script, and what it replies.

use redis::Value;
use storage_core::{
    Budget, Check, Commit, Expected, Revision, StorageError, Write, split_full_key,
};

use super::database::{Database, failed, is_wrong_type};
use super::error::Failure;
use super::script::Script;
use super::shard::Shard;
use super::{replies, values};
use crate::changes::Changes;

static COMMIT: Script = Script::new(include_str!("commit.lua"));

/// The largest value. The server takes half a gigabyte in one string, and one command in a
/// gigabyte.
const MAX_VALUE_BYTES: usize = 256 << 20;
const MAX_COMMIT_BYTES: usize = 2 * MAX_VALUE_BYTES;

/// Gives the script to the server of a shard, so that the first commit need not.
pub(super) fn prepare(database: &Database) -> Result<(), StorageError> {
    COMMIT.prepare(&database.client, Shard::FIRST).map_err(failed)
}

/// Applies a commit, and reports it to the watcher.
pub(super) fn apply(
    database: &Database,
    changes: &Changes,
    commit: &Commit,
) -> Result<Revision, StorageError> {
    if database.read_only {
        return Err(StorageError::ReadOnly);
    }
    commit.keys().try_for_each(storage_core::validate_full_key)?;
    let is_budgeted = commit.budgeted_component()?.is_some();
    check_size(commit)?;
    let call = Call::new(database, commit, is_budgeted)?;
    let reply = COMMIT.run(&database.client, call.shard, |command| {
        let (names, arguments) = call.parameters(database, changes);
        command.arg(names.len()).arg(names).arg(arguments);
    });
    match reply {
        Ok(reply) => call.outcome(database, changes, reply),
        Err(failure) => {
            let Some(reply) = failure.unconfirmed_reply() else {
                return Err(write_failed(failure));
            };
            // It was run, so a failed check is what it is. A commit that was made is reported,
            // although a failover may lose it.
            call.outcome(database, changes, reply.clone())?;
            Err(write_failed(failure))
        }
    }
}

/// The error of a write. The script finds keys of other types before it writes.
fn write_failed(failure: Failure) -> StorageError {
    if is_wrong_type(&failure) { failed(failure) } else { failure.into_write_error() }
}

fn check_size(commit: &Commit) -> Result<(), StorageError> {
    let too_large = |limit, max: usize, actual: usize| {
        Err(StorageError::LimitExceeded { limit, max: max as u64, actual: actual as u64 })
    };
    let written = commit.writes.iter().filter_map(|write| write.value.as_ref());
    let checked = commit.checks.iter().filter_map(|check| match &check.expected {
        Expected::Value(value) => Some(value),
        _ => None,
    });
    let mut sum = 0_usize;
    for len in written.chain(checked).map(|value| value.len()) {
        sum = sum.saturating_add(len);
        if len > MAX_VALUE_BYTES {
            return too_large("bytes of a value", MAX_VALUE_BYTES, len);
        }
    }
    if sum > MAX_COMMIT_BYTES {
        return too_large("bytes of the values of a commit", MAX_COMMIT_BYTES, sum);
    }
    Ok(())
}

/// A commit to one shard.
struct Call<'c> {
    commit: &'c Commit,
    shard: Shard,
    /// The component prefixes of the commit's keys, in order.
    components: Vec<&'c str>,
    writes: Vec<&'c Write>,
    budget: Option<Budget>,
}

impl<'c> Call<'c> {
    fn new(
        database: &Database,
        commit: &'c Commit,
        is_budgeted: bool,
    ) -> Result<Self, StorageError> {
        let mut components: Vec<&str> = commit.keys().map(|key| split_full_key(key).0).collect();
        components.sort_unstable();
        components.dedup();
        let shard = database.shard(components.first().copied().unwrap_or_default());
        if components.iter().any(|component| database.shard(component) != shard) {
            return Err(StorageError::Unsupported(
                "a store on a Redis cluster has no commits to several components, which may be on \
                 different nodes; use one commit for each component, or a store on one server"
                    .to_owned(),
            ));
        }
        let budget = commit.budget.filter(|_| is_budgeted);
        Ok(Self { commit, shard, components, writes: commit.effective_writes(), budget })
    }

    /// The position of the component of a key, from 1, and its user key.
    fn locate(&self, key: &'c str) -> (usize, &'c str) {
        let (prefix, user_key) = split_full_key(key);
        (self.components.binary_search(&prefix).map_or(0, |at| at + 1), user_key)
    }

    /// The full keys that a commit writes in a component.
    fn written<'s>(&'s self, component: &'s str) -> impl Iterator<Item = &'c str> + 's {
        let keys = self.writes.iter().map(|write| write.key.as_str());
        keys.filter(move |key| split_full_key(key).0 == component)
    }

    /// The keys and the arguments of the script, which describes them.
    fn parameters(&self, database: &Database, changes: &Changes) -> (Vec<String>, Vec<Vec<u8>>) {
        let Self { shard, components, .. } = self;
        let (keys, shard, store_id) = (&database.keys, *shard, &database.store_id);
        let checks = &self.commit.checks;
        let mut names = vec![
            keys.store(shard),
            keys.last_number(shard),
            keys.components(shard),
            keys.snapshots(shard),
            keys.old_values(shard),
            keys.old_index(shard),
        ];
        for component in components {
            names.push(keys.index(shard, component));
            names.push(keys.counter(shard, component));
        }
        names.extend(checks.iter().map(|check| keys.value(shard, &check.key)));
        names.extend(self.writes.iter().map(|write| keys.value(shard, &write.key)));

        let (max_bytes, max_keys) = match self.budget {
            Some(Budget { max_bytes, max_keys }) => (max_bytes.to_string(), max_keys.to_string()),
            None => (String::new(), String::new()),
        };
        let publish = if database.client.sharded_notices() { "SPUBLISH" } else { "PUBLISH" };
        let mut arguments: Vec<Vec<u8>> = vec![
            store_id.clone().into(),
            shard.number().to_string().into(),
            components.len().to_string().into(),
            checks.len().to_string().into(),
            self.writes.len().to_string().into(),
            max_bytes.into(),
            max_keys.into(),
            publish.into(),
            keys.channel(shard, store_id).into(),
        ];
        for component in components {
            let written: Vec<&str> = self.written(component).collect();
            let (start, end) = changes.halves(component, Some(&written));
            arguments.push((*component).into());
            arguments.push(written.len().to_string().into());
            arguments.extend([start.into(), end.into()]);
        }
        for check in checks {
            let (kind, expected) = expectation(check);
            arguments.extend([kind.into(), expected]);
        }
        for write in &self.writes {
            let (component, user_key) = self.locate(&write.key);
            arguments.extend([component.to_string().into(), user_key.into()]);
            arguments.extend(match &write.value {
                Some(value) => [b"s".to_vec(), values::record(&write.key, value)],
                None => [b"d".to_vec(), Vec::new()],
            });
        }
        (names, arguments)
    }

    /// Reads the reply of the script, and reports a commit that was made.
    fn outcome(
        &self,
        database: &Database,
        changes: &Changes,
        reply: Value,
    ) -> Result<Revision, StorageError> {
        let reply = replies::texts(reply)?;
        let mut reply = reply.iter().map(String::as_str);
        match reply.next() {
            Some("written") => {
                let revision = reply.next().and_then(replies::revision);
                let revision =
                    revision.ok_or_else(|| replies::unexpected("no revision of a commit"))?;
                self.report(changes, revision, reply);
                Ok(revision)
            }
            Some("budget") => Err(StorageError::QuotaExceeded),
            Some("check") => {
                let at = reply.next().and_then(|at| at.parse::<usize>().ok()).unwrap_or_default();
                let check = self.commit.checks.get(at.wrapping_sub(1));
                let check = check.ok_or_else(|| replies::unexpected("no failed check"))?;
                Err(match check.expected {
                    Expected::Absent => StorageError::AlreadyExists(check.key.clone()),
                    Expected::Present => StorageError::NotFound(check.key.clone()),
                    Expected::Revision(_) | Expected::Value(_) => {
                        StorageError::Conflict(check.key.clone())
                    }
                })
            }
            Some("other store") => Err(database.replaced()),
            Some("last revision") => Err(StorageError::Corrupt {
                key: None,
                detail: format!(
                    "{} is not the number of a commit, so nothing was written; delete it, and \
                     restart the hosts",
                    database.keys.last_number(self.shard)
                ),
            }),
            _ => Err(replies::unexpected("to the script of commits")),
        }
    }

    /// Tells the watcher of this host. The script has told those of the others.
    fn report<'r>(
        &self,
        changes: &Changes,
        revision: Revision,
        previous: impl Iterator<Item = &'r str>,
    ) {
        let written: Vec<(String, Option<Revision>)> = self
            .components
            .iter()
            .zip(previous)
            .filter(|(component, _)| self.written(component).next().is_some())
            .map(|(component, previous)| ((*component).to_owned(), replies::revision(previous)))
            .collect();
        Changes::of(self.commit, &written, revision).for_each(|change| changes.report(&change));
    }
}

/// What a check expects, as the script takes it.
fn expectation(check: &Check) -> (&'static str, Vec<u8>) {
    match &check.expected {
        Expected::Absent => ("absent", Vec::new()),
        Expected::Present => ("present", Vec::new()),
        Expected::Revision(revision) => ("revision", revision.get().to_be_bytes().to_vec()),
        Expected::Value(value) => ("value", values::record(&check.key, value)),
    }
}
