//! Commits: alone, or in a group of those that wait for the same component.

use std::sync::Arc;

use storage_core::{Commit, Revision, StorageError, Write};

use super::commits::{self, Committed, Outcome};
use super::error::Failure;
use super::notices::Notices;
use super::pool::Pool;
use super::queues::Queues;
use crate::changes::Changes;
use crate::group_commit::Requests;

/// How many bytes of values one request writes, unless one commit has more.
const MAX_GROUP_BYTES: usize = 8 << 20;

/// The largest value. The server takes a gigabyte in one message, and tools that dump it need
/// twice the length of a value.
const MAX_VALUE_BYTES: usize = 256 << 20;

type Request = Arc<Commit>;
type Reply = Result<Revision, StorageError>;

/// What a store needs to write.
#[derive(Debug, Default)]
pub(super) struct Writer {
    queues: Queues<Request, Reply>,
}

/// The rest of the store, as the writer uses it.
#[derive(Clone, Copy)]
pub(super) struct Environment<'s> {
    pub(super) pool: &'s Pool,
    pub(super) changes: &'s Arc<Changes>,
    pub(super) notices: &'s Notices,
}

impl Writer {
    /// Applies a commit with valid keys.
    ///
    /// # Errors
    /// As [`ComponentStorage::commit`](storage_core::ComponentStorage::commit).
    pub(super) fn commit(&self, store: Environment<'_>, commit: Commit) -> Reply {
        let values = commit.writes.iter().filter_map(|write| write.value.as_ref());
        if let Some(too_long) = values.map(|value| value.len()).find(|len| *len > MAX_VALUE_BYTES) {
            return Err(StorageError::LimitExceeded {
                limit: "bytes of a value",
                max: MAX_VALUE_BYTES as u64,
                actual: too_long as u64,
            });
        }
        let components = commits::components(&commit);
        let [component] = *components else {
            // It waits for several components, so it is in no queue.
            let commit = Arc::new(commit);
            let mut replies = store.apply(&[commit]);
            return replies.pop().unwrap_or_else(|| Err(store.lost()));
        };
        let component = component.to_owned();
        let serve = |waiting: &mut Requests<'_, Request, Reply>| {
            let (mut taken, mut bytes) = (Vec::new(), 0);
            while bytes < MAX_GROUP_BYTES
                && let Some(commit) = waiting.next()
            {
                bytes += commits::value_bytes(&commit);
                taken.push(commit);
            }
            store.apply(&taken)
        };
        self.queues.submit(&component, Arc::new(commit), serve, || Err(store.lost()))
    }
}

impl Environment<'_> {
    /// Applies commits in one transaction, and reports them. Returns a reply for each.
    fn apply(self, commits: &[Request]) -> Vec<Reply> {
        let outcomes = match self.request(commits) {
            Ok(outcomes) => outcomes,
            // Damage affects only the commit that reads it. Apply the others without it.
            Err(failure) if commits.len() > 1 && failure.is_damage() => {
                return commits
                    .iter()
                    .flat_map(|one| self.apply(std::slice::from_ref(one)))
                    .collect();
            }
            Err(failure) => {
                let error = failure.into_write_error(self.pool.address());
                return commits.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let replies = commits.iter().zip(outcomes).map(|(commit, outcome)| {
            outcome.map(|committed| {
                self.report(commit, &committed);
                committed.revision
            })
        });
        replies.collect()
    }

    fn request(self, commits: &[Request]) -> Result<Vec<Outcome>, Failure> {
        self.pool.write(async |session| {
            if let [commit] = commits
                && let Some(write) = commits::single_write(commit)
            {
                return Ok(vec![commits::apply_write(session, write, commit).await?]);
            }
            let commits: Vec<&Commit> = commits.iter().map(Arc::as_ref).collect();
            let writes: Option<Vec<(&Write, &Commit)>> = commits
                .iter()
                .map(|commit| Some((commits::single_write(commit)?, *commit)))
                .collect();
            if let Some(writes) = writes {
                return commits::apply_writes(session, &writes).await;
            }
            // A commit without an outcome is lost, and may have taken effect.
            commits::apply(session, &commits).await
        })
    }

    /// Tells this host's watcher and the other hosts.
    fn report(self, commit: &Commit, committed: &Committed) {
        for change in Changes::of(commit, &committed.components, committed.revision) {
            self.changes.report(&change);
            self.notices.send(self.pool.connector(), self.changes, &change);
        }
    }

    /// The error of a commit whose group ended without its outcome.
    fn lost(self) -> StorageError {
        StorageError::Unavailable {
            key: None,
            detail: format!("{}: the write may or may not have taken effect", self.pool.address()),
        }
    }
}
