//! The operations of the workload, generated from a seed.
//!
//! Only one thread writes a key, so that few states of a key are possible at any time.
//! All threads write to the same components, so that they share usage counters.

use fastrand::Rng;
use storage_core::{Budget, Commit};

use crate::content::content;

/// The number of components.
const COMPONENTS: u64 = 4;
/// The number of keys of a thread in a component.
const KEYS: u64 = 14;
/// The number of keys in a commit.
pub(crate) const BATCH: usize = 10;
/// The longest value is two to the power of this many bytes.
const MAX_VALUE_BITS: u32 = 16;

/// A key, and the length of its new value or `None` to delete it.
pub(crate) type Change = (String, Option<usize>);

/// What a thread does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A `set` or `delete`.
    Plain(Change),
    /// A commit.
    Commit(Vec<Change>, Option<Budget>),
    /// A read. `own`: of a key that this thread writes.
    Read { key: String, own: bool },
}

impl Step {
    /// The changes it makes.
    pub(crate) fn changes(&self) -> &[Change] {
        match self {
            Self::Plain(change) => std::slice::from_ref(change),
            Self::Commit(changes, _) => changes,
            Self::Read { .. } => &[],
        }
    }
}

/// The commit of these changes by operation `op`.
pub(crate) fn commit_of(op: u64, changes: &[Change], budget: Option<Budget>) -> Commit {
    let mut commit = Commit::new();
    for (key, len) in changes {
        commit = match len {
            Some(len) => commit.set(key.as_str(), content(key, op, *len).into()),
            None => commit.delete(key.as_str()),
        };
    }
    match budget {
        Some(budget) => commit.with_budget(budget),
        None => commit,
    }
}

/// The steps of a thread.
#[derive(Debug)]
pub(crate) struct Plan {
    random: Rng,
    thread: u64,
    threads: u64,
    /// Distinguishes the new components of this run.
    run: u64,
    fresh: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, run: u64, thread: u64, threads: u64) -> Self {
        let random = Rng::with_seed(seed ^ run.rotate_left(32) ^ thread.rotate_left(56));
        Self { random, thread, threads, run, fresh: 0 }
    }

    pub(crate) fn next(&mut self) -> Step {
        match self.random.u64(0..100) {
            0..35 => {
                let key = self.any_key(self.thread);
                Step::Plain((key, Some(self.len())))
            }
            35..45 => Step::Plain((self.any_key(self.thread), None)),
            45..70 => Step::Commit(self.batch(None), None),
            70..78 => {
                let component = self.random.u64(0..COMPONENTS);
                let key = self.key(self.thread, component);
                let change = (key, Some(self.len()));
                Step::Commit(vec![change], Some(self.budget()))
            }
            78..86 => {
                let component = self.random.u64(0..COMPONENTS);
                Step::Commit(self.batch(Some(component)), Some(self.budget()))
            }
            86..90 => self.fresh(),
            90..93 => Step::Read { key: self.any_key(self.thread), own: true },
            _ => {
                let thread = self.random.u64(0..self.threads);
                Step::Read { key: self.any_key(thread), own: thread == self.thread }
            }
        }
    }

    /// A write of the first key of a new component.
    pub(crate) fn fresh(&mut self) -> Step {
        self.fresh += 1;
        let component = format!("dur/fresh/r{}-t{}-{}", self.run, self.thread, self.fresh);
        Step::Plain((format!("{component}/first"), Some(self.len())))
    }

    /// A write of the given kind, for a cut right after it: a new component, a new key, a
    /// delete or a commit.
    pub(crate) fn kind(&mut self, kind: u64) -> Step {
        match kind % 4 {
            0 => self.fresh(),
            1 => {
                let key = format!("dur/app/c0/t{}/once-{}", self.thread, self.run);
                Step::Plain((key, Some(self.len())))
            }
            2 => Step::Plain((self.any_key(self.thread), None)),
            _ => Step::Commit(self.batch(None), None),
        }
    }

    /// A key of a thread in a component.
    fn key(&mut self, thread: u64, component: u64) -> String {
        match self.random.u64(0..KEYS) {
            // Too long for a file name.
            9 => format!("dur/app/c{component}/t{thread}/{}", "long-".repeat(60)),
            number => format!("dur/app/c{component}/t{thread}/k{number}"),
        }
    }

    fn any_key(&mut self, thread: u64) -> String {
        let component = self.random.u64(0..=COMPONENTS);
        if component < COMPONENTS {
            return self.key(thread, component);
        }
        format!("unscoped-t{thread}-{}", self.random.u64(0..KEYS))
    }

    /// Changes of distinct keys, of one component or of any.
    fn batch(&mut self, component: Option<u64>) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        while changes.len() < BATCH {
            let key = match component {
                Some(component) => self.key(self.thread, component),
                None => self.any_key(self.thread),
            };
            if changes.iter().all(|(other, _)| *other != key) {
                let len = (!percent(&mut self.random, 25)).then(|| self.len());
                changes.push((key, len));
            }
        }
        changes
    }

    /// A length of at least one byte; every power of two is equally likely.
    fn len(&mut self) -> usize {
        let max = 1 << self.random.u32(0..=MAX_VALUE_BITS);
        self.random.usize(1..=max)
    }

    /// Usually ample, sometimes too small.
    fn budget(&mut self) -> Budget {
        if percent(&mut self.random, 80) {
            return Budget { max_bytes: 1 << 40, max_keys: 1 << 20 };
        }
        Budget { max_bytes: self.random.u64(0..1 << 20), max_keys: self.random.u64(0..200) }
    }
}

/// True in this percentage of cases.
pub(crate) fn percent(random: &mut Rng, percentage: u32) -> bool {
    random.u32(0..100) < percentage
}
