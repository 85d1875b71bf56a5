//! The kinds of operations, of which every two and every three meet.

use clap::ValueEnum;
use storage_core::Commit;

use crate::action::{Action, Read, Write};
use crate::below::Fault;
use crate::random::Random;
use crate::values::{KEY, Names, OTHER, Values};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Operation {
    /// A read of the value, alone, in a batch or with its revision.
    Get,
    /// A read that waits for nobody.
    TryGet,
    /// A set or a put, now and then of a value too large to keep.
    Set,
    /// A delete, of what may not be there.
    Delete,
    /// A read of whether there is a value.
    Exists,
    /// A commit of two keys, or of one with a check.
    Commit,
    /// Time passes, so that everything expires, perhaps after a write around the
    /// cache, which must be seen then.
    Expire,
    /// All that is kept is dropped, perhaps after such a write.
    Clear,
    /// Reads or writes of other keys, which fill a small cache.
    Evict,
    /// A write that fails and took effect, or did not.
    Fail,
    /// A write that panics and took effect, or did not.
    Panic,
}

impl Operation {
    /// Chooses the details.
    pub(crate) fn action(self, random: &mut Random, names: &Names, values: &mut Values) -> Action {
        match self {
            Self::Get => Action::Read(match random.below(3) {
                0 => Read::Get,
                1 => Read::GetVersioned,
                _ => Read::GetMany { turned: random.coin() },
            }),
            Self::TryGet => Action::Read(Read::TryGet),
            Self::Exists => Action::Read(Read::Exists),
            Self::Set => Action::Write(set(random, values), None),
            Self::Delete => Action::Write(Write::Delete, None),
            Self::Commit => Action::Write(commit(random, names, values), None),
            Self::Expire | Self::Clear => Action::End {
                around: random.coin().then(|| random.coin().then(|| values.small())),
                drops: self == Self::Clear,
            },
            Self::Evict => Action::Evict(random.coin().then(|| values.small())),
            Self::Fail | Self::Panic => {
                let write = match random.below(4) {
                    0 => Write::Delete,
                    1 => commit(random, names, values),
                    _ => set(random, values),
                };
                let fault = Fault { panics: self == Self::Panic, takes_effect: random.coin() };
                Action::Write(write, Some(fault))
            }
        }
    }
}

fn set(random: &mut Random, values: &mut Values) -> Write {
    let value = if random.once_in(4) { values.large() } else { values.small() };
    if random.coin() { Write::Set(value) } else { Write::Put(value) }
}

fn commit(random: &mut Random, names: &Names, values: &mut Values) -> Write {
    let (key, other) = (names.get(KEY), names.get(OTHER));
    let commit = match random.below(4) {
        0 => Commit::new().require_absent(key),
        1 => Commit::new().require_present(key),
        _ => Commit::new(),
    };
    let commit = match random.below(4) {
        // What is only checked is locked all the same.
        0 => commit.set(other, values.small()),
        1 => commit.delete(key).set(other, values.small()),
        // In the other order too.
        2 => commit.set(other, values.small()).set(key, values.small()),
        _ => commit.set(key, values.small()).set(other, values.small()),
    };
    Write::Commit(commit)
}
