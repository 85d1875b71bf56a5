//! What the workload does: a sequence of operations from a seed.
//!
//! A key belongs to one thread, which is the only one to write it, so that at
//! any moment few states of a key are possible. Components are shared, so that
//! their ledgers are not.

use storage_core::{Budget, Commit};

use crate::content::content;
use crate::random::Random;

/// The components that every thread writes in.
const COMPONENTS: u64 = 4;
/// The keys of one thread in one component.
const KEYS: u64 = 14;
/// How many keys a commit of several writes.
pub(crate) const BATCH: usize = 10;
/// The longest value in bytes, as a power of two.
const MAX_VALUE_BITS: u64 = 16;

/// One write of an operation: a key, and the length of its new value or `None`
/// to delete it.
pub(crate) type Change = (String, Option<usize>);

/// What a thread does next.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// `set` or `delete`, as a chain without a quota does them.
    Plain(Change),
    /// Several keys, or one within a budget.
    Commit(Vec<Change>, Option<Budget>),
    /// A look at a key, one's own or another thread's.
    Read { key: String, own: bool },
}

impl Step {
    /// What it writes.
    pub(crate) fn changes(&self) -> &[Change] {
        match self {
            Self::Plain(change) => std::slice::from_ref(change),
            Self::Commit(changes, _) => changes,
            Self::Read { .. } => &[],
        }
    }
}

/// The commit of these changes, with the values that operation `op` gives them.
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

/// The steps of one thread.
#[derive(Debug)]
pub(crate) struct Plan {
    random: Random,
    thread: u64,
    threads: u64,
    /// Tells the new components of this run from those of others.
    run: u64,
    fresh: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64, run: u64, thread: u64, threads: u64) -> Self {
        let random = Random::new(seed ^ run.rotate_left(32) ^ thread.rotate_left(56));
        Self { random, thread, threads, run, fresh: 0 }
    }

    /// The next step.
    pub(crate) fn next(&mut self) -> Step {
        match self.random.below(100) {
            0..35 => {
                let key = self.any_key(self.thread);
                Step::Plain((key, Some(self.len())))
            }
            35..45 => Step::Plain((self.any_key(self.thread), None)),
            45..70 => Step::Commit(self.batch(None), None),
            70..78 => {
                let component = self.random.below(COMPONENTS);
                let key = self.key(self.thread, component);
                let change = (key, Some(self.len()));
                Step::Commit(vec![change], Some(self.budget()))
            }
            78..86 => {
                let component = self.random.below(COMPONENTS);
                Step::Commit(self.batch(Some(component)), Some(self.budget()))
            }
            86..90 => self.fresh(),
            90..93 => Step::Read { key: self.any_key(self.thread), own: true },
            _ => {
                let thread = self.random.below(self.threads);
                Step::Read { key: self.any_key(thread), own: thread == self.thread }
            }
        }
    }

    /// A write of a new key in a component that nobody has written to yet.
    pub(crate) fn fresh(&mut self) -> Step {
        self.fresh += 1;
        let component = format!("dur/fresh/r{}-t{}-{}", self.run, self.thread, self.fresh);
        Step::Plain((format!("{component}/first"), Some(self.len())))
    }

    /// A write of the given kind, for cuts right after it: a new component, a
    /// key in an old one, a delete, a commit of several keys.
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
        match self.random.below(KEYS) {
            // Too long for the name of a file.
            9 => format!("dur/app/c{component}/t{thread}/{}", "long-".repeat(60)),
            number => format!("dur/app/c{component}/t{thread}/k{number}"),
        }
    }

    fn any_key(&mut self, thread: u64) -> String {
        let component = self.random.below(COMPONENTS + 1);
        if component < COMPONENTS {
            return self.key(thread, component);
        }
        format!("loose-t{thread}-{}", self.random.below(KEYS))
    }

    /// Writes to several keys, all different, of one component or of any.
    fn batch(&mut self, component: Option<u64>) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        while changes.len() < BATCH {
            let key = match component {
                Some(component) => self.key(self.thread, component),
                None => self.any_key(self.thread),
            };
            if changes.iter().all(|(other, _)| *other != key) {
                let len = (!self.random.chance(25)).then(|| self.len());
                changes.push((key, len));
            }
        }
        changes
    }

    /// A length from 1 byte up, short ones as likely as long ones.
    fn len(&mut self) -> usize {
        let most = 1 << self.random.below(MAX_VALUE_BITS + 1);
        1 + self.random.index(most)
    }

    /// Mostly out of the way, at times too small.
    fn budget(&mut self) -> Budget {
        if self.random.chance(80) {
            return Budget { max_bytes: 1 << 40, max_keys: 1 << 20 };
        }
        Budget { max_bytes: self.random.below(1 << 20), max_keys: self.random.below(200) }
    }
}
