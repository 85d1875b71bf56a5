//! Commits as parts of a run of the script, and what it replies.

use std::sync::{Arc, OnceLock};

use redis::Value;
use storage_core::{
    Budget, Check, Commit, Expected, Revision, StorageError, Write, split_full_key,
};

use super::database::{Database, failed, is_wrong_type};
use super::error::Failure;
use super::part::{Common, Part};
use super::script::Script;
use super::shard::Shard;
use super::{replies, values};
use crate::changes::Changes;

static COMMIT: Script = Script::new(include_str!("commit.lua"));

/// The largest value. The server takes half a gigabyte in one string, and one command in a
/// gigabyte.
const MAX_VALUE_BYTES: usize = 256 << 20;
const MAX_COMMIT_BYTES: usize = 2 * MAX_VALUE_BYTES;

/// How commits are sent.
#[derive(Debug)]
pub(super) struct Commits {
    /// For each shard, what its commits have in common.
    common: Vec<OnceLock<Arc<Common>>>,
}

impl Commits {
    /// Gives the script to the server of a shard, so that the first commit need not, unless the
    /// store is only read.
    pub(super) fn new(database: &Database) -> Result<Self, StorageError> {
        if !database.read_only {
            COMMIT.load(&database.client, Shard::FIRST).map_err(failed)?;
        }
        Ok(Self { common: database.shards().map(|_| OnceLock::new()).collect() })
    }

    /// Applies a commit, and reports it to the watcher.
    pub(super) fn apply(
        &self,
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
        let part = Arc::new(call.part(database, changes, self.common(database, changes, &call)));
        match COMMIT.run_part(&database.client, call.shard, &part) {
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

    /// What the commits to a shard have in common. Commits of the same shard get the same one.
    fn common(&self, database: &Database, changes: &Changes, call: &Call<'_>) -> Arc<Common> {
        let common = || Arc::new(call.common(database, changes));
        match self.common.get(usize::from(call.shard.number())) {
            Some(known) => Arc::clone(known.get_or_init(common)),
            None => common(),
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

    /// The keys and the arguments of the script that commits to the shard have in common. The
    /// script describes them.
    fn common(&self, database: &Database, changes: &Changes) -> Common {
        let (keys, shard, store_id) = (&database.keys, self.shard, &database.store_id);
        Common {
            script: &COMMIT,
            keys: vec![
                keys.store(shard),
                keys.last_number(shard),
                keys.components(shard),
                keys.snapshots(shard),
                keys.old_values(shard),
                keys.old_index(shard),
            ],
            arguments: vec![
                store_id.clone().into(),
                shard.number().to_string().into(),
                database.client.publish_command().into(),
                keys.channel(shard, store_id).into(),
                changes.notice_start().into(),
            ],
        }
    }

    /// The keys and the arguments of this commit.
    fn part(&self, database: &Database, changes: &Changes, common: Arc<Common>) -> Part {
        let Self { components, writes, .. } = self;
        let (keys, shard) = (&database.keys, self.shard);
        let checks = &self.commit.checks;
        let mut names = Vec::with_capacity(2 * components.len() + checks.len() + writes.len());
        for component in components {
            names.push(keys.index(shard, component));
            names.push(keys.counter(shard, component));
        }
        names.extend(checks.iter().map(|check| keys.value(shard, &check.key)));
        names.extend(writes.iter().map(|write| keys.value(shard, &write.key)));

        let (max_bytes, max_keys) = match self.budget {
            Some(Budget { max_bytes, max_keys }) => (max_bytes.to_string(), max_keys.to_string()),
            None => (String::new(), String::new()),
        };
        let mut arguments: Vec<Vec<u8>> = vec![
            components.len().to_string().into(),
            checks.len().to_string().into(),
            writes.len().to_string().into(),
            max_bytes.into(),
            max_keys.into(),
        ];
        for component in components {
            let written: Vec<&str> = self.written(component).collect();
            arguments.push((*component).into());
            arguments.push(written.len().to_string().into());
            arguments.push(changes.notice_end(component, Some(&written)).into());
        }
        for check in checks {
            let (kind, expected) = expectation(check);
            arguments.extend([kind.into(), expected]);
        }
        for write in writes {
            let (component, user_key) = self.locate(&write.key);
            arguments.extend([component.to_string().into(), user_key.into()]);
            arguments.extend(match &write.value {
                Some(value) => [b"s".to_vec(), values::record(&write.key, value)],
                None => [b"d".to_vec(), Vec::new()],
            });
        }
        // A full server refuses the others as long as nothing was written.
        let only_deletes = !writes.is_empty() && writes.iter().all(|write| write.value.is_none());
        Part { common, keys: names, arguments, is_last: only_deletes }
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

#[cfg(test)]
#[cfg(unix)]
#[allow(clippy::print_stderr, reason = "without a server the test says that it is skipped")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU32, Ordering};

    use proptest::collection::vec;
    use proptest::prelude::*;
    use storage_core::{ComponentStorage as _, StorageValue, Store as _, Usage};
    use test_servers::Redis;

    use super::*;
    use crate::redis::opening::{self, Purpose};
    use crate::{Deployment, RedisAddress, RedisOptions, RedisStorage};

    fn key() -> impl Strategy<Value = String> {
        (0..3, 0..4).prop_map(|(component, key)| format!("app/notes/{component}/{key}"))
    }

    fn value() -> impl Strategy<Value = StorageValue> {
        (0..3_usize).prop_map(|len| vec![b'x'; len].into())
    }

    /// A commit to several components, or one with a budget.
    fn commit() -> impl Strategy<Value = Commit> {
        let check = (key(), 0..3, value());
        let write = (key(), proptest::option::weighted(0.7, value()));
        let budget = proptest::option::of((0..80_u64, 0..5_u64));
        (vec(check, 0..3), vec(write, 0..4), budget).prop_map(|(checks, writes, budget)| {
            let in_one = |key: String| match budget {
                Some(_) => key.replace("/1/", "/0/").replace("/2/", "/0/"),
                None => key,
            };
            let mut commit = Commit::new();
            for (key, kind, value) in checks {
                let key = in_one(key);
                commit = match kind {
                    0 => commit.require_absent(key),
                    1 => commit.require_present(key),
                    _ => commit.require_value(key, value),
                };
            }
            for (key, value) in writes {
                let key = in_one(key);
                commit = match value {
                    Some(value) => commit.set(key, value),
                    None => commit.delete(key),
                };
            }
            match budget {
                Some((max_bytes, max_keys)) => commit.with_budget(Budget { max_bytes, max_keys }),
                None => commit,
            }
        })
    }

    /// Makes commits with one run of the script.
    fn run(database: &Database, commits: &[Commit]) -> Vec<Result<Revision, StorageError>> {
        let (of_commits, changes) = (Commits::new(database).unwrap(), &Changes::new());
        let calls: Vec<Call<'_>> = commits
            .iter()
            .map(|commit| {
                let is_budgeted = commit.budgeted_component().unwrap().is_some();
                Call::new(database, commit, is_budgeted).unwrap()
            })
            .collect();
        let parts: Vec<Part> = calls
            .iter()
            .map(|call| call.part(database, changes, of_commits.common(database, changes, call)))
            .collect();
        let command = Part::command(&parts.iter().collect::<Vec<_>>());
        let reply = database.client.write(Shard::FIRST, &command).unwrap();
        let replies = Part::replies(reply, calls.len());
        calls
            .iter()
            .zip(replies)
            .map(|(call, reply)| call.outcome(database, changes, reply))
            .collect()
    }

    /// What a store holds, and the usage of its components.
    fn content(store: &RedisStorage) -> (BTreeMap<String, StorageValue>, Vec<(String, Usage)>) {
        let mut values = BTreeMap::new();
        store
            .read_snapshot("", None, &mut |key, value| {
                values.insert(key.to_owned(), value);
                Ok(())
            })
            .unwrap();
        let components = store.list_components(None, 100).unwrap().keys;
        let usage = |prefix: String| {
            let usage = store.usage(Some(&prefix)).unwrap();
            (prefix, usage)
        };
        (values, components.into_iter().map(usage).collect())
    }

    #[test]
    fn a_run_of_many_commits_does_what_they_do_one_after_the_other() {
        if let Some(why) = Redis::missing() {
            eprintln!("SKIPPED: {why}");
            return;
        }
        let server = Redis::start().unwrap();
        let host = server.address().ip().to_string();
        let address = RedisAddress::new(host, server.address().port());
        let with_prefix = |prefix: String| {
            RedisOptions::new(Deployment::Single(address.clone())).with_prefix(prefix)
        };
        let cases = AtomicU32::new(0);
        proptest!(ProptestConfig::with_cases(150), |(runs in vec(vec(commit(), 1..8), 1..4))| {
            let case = cases.fetch_add(1, Ordering::Relaxed);
            let one = RedisStorage::open(&with_prefix(format!("one-{case}"))).unwrap();
            let options = with_prefix(format!("many-{case}"));
            let many = RedisStorage::open(&options).unwrap();
            let (database, _) = opening::open(&options, Purpose::Write).unwrap();
            let mut last = Revision::new(0);
            for commits in runs {
                let expected: Vec<_> =
                    commits.iter().map(|commit| one.commit(commit.clone()).map(drop)).collect();
                let results = run(&database, &commits);
                for revision in results.iter().flatten() {
                    prop_assert!(*revision > last);
                    last = *revision;
                }
                let results: Vec<_> = results.into_iter().map(|result| result.map(drop)).collect();
                prop_assert_eq!(results, expected);
                prop_assert_eq!(content(&many), content(&one));
            }
            let mut problems = Vec::new();
            many.verify(&mut |problem| problems.push(problem)).unwrap();
            prop_assert_eq!(problems, vec![]);
        });
    }
}
