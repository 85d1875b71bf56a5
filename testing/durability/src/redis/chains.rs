//! Commits that form a chain in each component, so that it can be told which of them were lost.
//!
//! A commit reads the counter of its component, checks that it is still the same, raises it by
//! one, adds the key of its number, and deletes the key of a number long before. The counter and
//! the key name the attempt. So a component at any time has the counter and the last keys before
//! it, and nothing else, whatever was lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use storage_core::{Budget, Commit, ComponentStorage, Revision, StorageError};

use crate::report::Fault;

/// How many of the last keys a component keeps.
pub(super) const KEPT: u64 = 12;

/// The longest time that a call may take: its total time of 30 s, a reply that is awaited at
/// its end, and a busy machine.
const LONGEST_CALL: Duration = Duration::from_secs(45);

/// A budget that is just enough for the counter and the keys that are kept.
const BUDGET: Budget = Budget { max_bytes: 1 << 30, max_keys: KEPT + 1 };

/// One try of a commit.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) component: usize,
    /// The value of the counter after it.
    pub(super) number: u64,
    /// The attempt that the counter named before; 0 if there was none.
    pub(super) parent: u64,
    pub(super) end: End,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Not yet, or indeterminate.
    Unknown,
    Acked {
        revision: u64,
        at: Instant,
    },
    /// The error says that nothing was changed.
    Refused,
}

/// What the writers of a round did.
pub(super) struct History {
    pub(super) prefixes: Vec<String>,
    /// By number, from 1.
    attempts: Mutex<BTreeMap<u64, Attempt>>,
    /// The attempt that each host saw a revision for. Two primaries that both accept writes
    /// may give the same one.
    revisions: Mutex<BTreeMap<(Host, u64), u64>>,
    findings: Mutex<Vec<(Fault, String)>>,
    /// Errors without their numbers, and how often they occurred.
    errors: Mutex<BTreeMap<String, u64>>,
    longest: Mutex<Duration>,
    next: AtomicU64,
    is_over: AtomicBool,
    is_idle: AtomicBool,
}

/// A host that commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// Always.
    Busy,
    /// Except during a failover, of which it hears nothing.
    Idle,
}

impl History {
    /// A history of these components. The numbers of its attempts begin at `first`.
    pub(super) fn new(prefixes: Vec<String>, first: u64) -> Self {
        Self {
            prefixes,
            attempts: Mutex::default(),
            revisions: Mutex::default(),
            findings: Mutex::default(),
            errors: Mutex::default(),
            longest: Mutex::default(),
            next: AtomicU64::new(first),
            is_over: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
        }
    }

    /// Commits until [`end`](Self::end). Most commits are to the component of this number, some
    /// to the last one, to which all writers commit.
    pub(super) fn write(&self, host: Host, store: &dyn ComponentStorage, writer: usize, seed: u64) {
        let mut random = Rng::with_seed(seed ^ (writer as u64) << 32);
        let shared = self.prefixes.len().saturating_sub(1);
        let mut heads: BTreeMap<usize, Head> = BTreeMap::new();
        while !self.is_over.load(Ordering::Relaxed) {
            if host == Host::Idle && self.is_idle.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let component = if random.u32(0..5) == 0 { shared } else { writer };
            let head = match heads.remove(&component) {
                Some(head) => head,
                None => match self.read_head(host, store, component) {
                    Some(head) => head,
                    None => continue,
                },
            };
            if let Some(next) = self.commit(host, store, component, &head, random.usize(0..2000)) {
                heads.insert(component, next);
            }
        }
    }

    /// Lets idle hosts pause, or continue.
    pub(super) fn pause_idle(&self, pause: bool) {
        self.is_idle.store(pause, Ordering::Relaxed);
    }

    /// Lets writers begin again after [`end`](Self::end).
    #[cfg(test)]
    pub(super) fn resume(&self) {
        self.is_over.store(false, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Tries to add a commit. Returns the head after it if it was acknowledged.
    fn commit(
        &self,
        host: Host,
        store: &dyn ComponentStorage,
        component: usize,
        head: &Head,
        padding: usize,
    ) -> Option<Head> {
        let prefix = self.prefixes.get(component)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let number = head.number + 1;
        let attempt = Attempt { component, number, parent: head.id, end: End::Unknown };
        lock(&self.attempts).insert(id, attempt);
        let counter = counter(prefix);
        let commit = match head.revision {
            Some(revision) => Commit::new().require_revision(&counter, revision),
            None => Commit::new().require_absent(&counter),
        };
        let mut value = named(id, number);
        let mut commit =
            commit.set(&counter, value.clone().into_bytes().into()).with_budget(BUDGET);
        value.extend(std::iter::repeat_n('.', padding));
        commit = commit.set(numbered(prefix, number), value.into_bytes().into());
        if number > KEPT {
            commit = commit.delete(numbered(prefix, number - KEPT));
        }
        let result = self.timed("a commit", || store.commit(commit));
        let end = match &result {
            Ok(revision) => {
                self.see(host, revision.get(), id);
                End::Acked { revision: revision.get(), at: Instant::now() }
            }
            // The counter was changed by another writer, or by a failover.
            Err(
                StorageError::Conflict(_)
                | StorageError::AlreadyExists(_)
                | StorageError::NotFound(_),
            ) => End::Refused,
            Err(error) => self.failed(error),
        };
        if let Some(attempt) = lock(&self.attempts).get_mut(&id) {
            attempt.end = end;
        }
        let revision = result.ok()?;
        Some(Head { id, number, revision: Some(revision) })
    }

    /// Reads the counter; `None` if that failed.
    fn read_head(
        &self,
        host: Host,
        store: &dyn ComponentStorage,
        component: usize,
    ) -> Option<Head> {
        let prefix = self.prefixes.get(component)?;
        let read = self.timed("a read", || store.get_versioned(&counter(prefix)));
        match read {
            Ok(None) => Some(Head { id: 0, number: 0, revision: None }),
            Ok(Some(found)) => {
                let Some((id, number)) = parse(found.value.as_bytes()) else {
                    self.find(Fault::Torn, format!("{prefix}: the counter was not written so"));
                    return None;
                };
                self.see(host, found.revision.get(), id);
                Some(Head { id, number, revision: Some(found.revision) })
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// What an error says of its write. An error without an end is a finding.
    fn failed(&self, error: &StorageError) -> End {
        let text = error.to_string();
        let StorageError::Unavailable { detail, .. } = error else {
            self.find(Fault::Contract, format!("an unexpected error: {text}"));
            return End::Refused;
        };
        // A write that too few replicas confirmed was made, but a failover may lose it.
        let is_indeterminate = detail.contains("may or may not have taken effect")
            || detail.contains("so a failover may lose it");
        let without_numbers: String =
            detail.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        *lock(&self.errors).entry(without_numbers).or_default() += 1;
        // A server that is down refuses at once.
        std::thread::sleep(Duration::from_millis(5));
        if is_indeterminate { End::Unknown } else { End::Refused }
    }

    fn timed<T>(&self, what: &str, call: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = call();
        let took = began.elapsed();
        let mut longest = lock(&self.longest);
        *longest = took.max(*longest);
        drop(longest);
        if took > LONGEST_CALL {
            self.find(Fault::Hung, format!("{what} took {} s", took.as_secs()));
        }
        result
    }

    /// Notes the attempt of a revision. For this host no other attempt may ever have it.
    pub(super) fn see(&self, host: Host, revision: u64, id: u64) {
        let known = *lock(&self.revisions).entry((host, revision)).or_insert(id);
        if known != id {
            let text = format!("attempts {known} and {id} have the revision {revision}");
            self.find(Fault::Revision, text);
        }
    }

    pub(super) fn find(&self, fault: Fault, text: String) {
        lock(&self.findings).push((fault, text));
    }

    /// The attempts so far.
    pub(super) fn attempts(&self) -> BTreeMap<u64, Attempt> {
        lock(&self.attempts).clone()
    }

    pub(super) fn take_findings(&self) -> Vec<(Fault, String)> {
        std::mem::take(&mut *lock(&self.findings))
    }

    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    pub(super) fn longest(&self) -> Duration {
        *lock(&self.longest)
    }
}

/// The counter of a component, as it was read or written last.
struct Head {
    id: u64,
    number: u64,
    revision: Option<Revision>,
}

pub(super) fn counter(prefix: &str) -> String {
    format!("{prefix}counter")
}

/// The key of a commit.
pub(super) fn numbered(prefix: &str, number: u64) -> String {
    format!("{prefix}{number:08}")
}

/// The value of a counter, and the start of that of a key.
fn named(id: u64, number: u64) -> String {
    format!("{id} {number} ")
}

/// Reads what [`named`] wrote.
pub(super) fn parse(value: &[u8]) -> Option<(u64, u64)> {
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
