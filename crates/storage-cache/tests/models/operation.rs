//! The operations of a model, and their results.

use fastrand::Rng;
use storage_core::{Commit, ComponentStorage, Expected, StorageError, StorageValue};

use crate::history::Seen;
use crate::scenario::{FILLERS, KEY, Names, OTHER, Scenario, TTL, Values};
use crate::storage::Fault;

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Reads the value: alone, in a batch or with its revision.
    Get,
    TryGet,
    Exists,
    /// Writes a value, sometimes one too large to cache.
    Set,
    Delete,
    /// Commits two keys, or one with a check.
    Commit,
    /// Advances the clock past the TTL, perhaps after a write that bypasses the cache.
    Expire,
    /// Clears the cache, perhaps after a write that bypasses it.
    Clear,
    /// Reads or writes other keys, which fill a small cache.
    Evict,
    /// A write that fails, with or without effect.
    Fail,
    /// A write that panics, with or without effect.
    Panic,
}

/// An operation with its arguments.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Read(Read),
    Write(Write, Option<Fault>),
    /// Expires all entries, or clears the cache, after a write that bypasses it.
    End {
        around: Option<Option<StorageValue>>,
        clears: bool,
    },
    /// Writes this value to the other keys, or reads them.
    Evict(Option<StorageValue>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    Get,
    /// Both keys, in either order.
    GetMany {
        reversed: bool,
    },
    GetVersioned,
    TryGet,
    Exists,
}

#[derive(Debug, Clone)]
pub(crate) enum Write {
    Set(StorageValue),
    Delete,
    Commit(Commit),
}

impl Operation {
    #[rustfmt::skip]
    pub(crate) const ALL: [Self; 11] = [
        Self::Get, Self::TryGet, Self::Exists, Self::Set, Self::Delete, Self::Commit,
        Self::Expire, Self::Clear, Self::Evict, Self::Fail, Self::Panic,
    ];

    pub(crate) fn name(&self) -> String {
        format!("{self:?}").to_lowercase()
    }

    pub(crate) fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|operation| operation.name() == name);
        found.unwrap_or_else(|| panic!("{name} is not one of {:?}", Self::ALL.map(|o| o.name())))
    }

    /// Chooses the arguments.
    pub(crate) fn action(self, random: &mut Rng, names: &Names, values: &mut Values) -> Action {
        let around = |random: &mut Rng, values: &mut Values| {
            random.bool().then(|| random.bool().then(|| values.small()))
        };
        match self {
            Self::Get => Action::Read(match random.u8(..3) {
                0 => Read::Get,
                1 => Read::GetVersioned,
                _ => Read::GetMany { reversed: random.bool() },
            }),
            Self::TryGet => Action::Read(Read::TryGet),
            Self::Exists => Action::Read(Read::Exists),
            Self::Set => Action::Write(set(random, values), None),
            Self::Delete => Action::Write(Write::Delete, None),
            Self::Commit => Action::Write(commit(random, names, values), None),
            Self::Expire => Action::End { around: around(random, values), clears: false },
            Self::Clear => Action::End { around: around(random, values), clears: true },
            Self::Evict => Action::Evict(random.bool().then(|| values.small())),
            Self::Fail | Self::Panic => {
                let write = match random.u8(..4) {
                    0 => Write::Delete,
                    1 => commit(random, names, values),
                    _ => set(random, values),
                };
                let fault = Fault { panics: self == Self::Panic, takes_effect: random.bool() };
                Action::Write(write, Some(fault))
            }
        }
    }
}

fn set(random: &mut Rng, values: &mut Values) -> Write {
    Write::Set(if random.u8(..4) == 0 { values.large() } else { values.small() })
}

fn commit(random: &mut Rng, names: &Names, values: &mut Values) -> Write {
    let (key, other) = (names.get(KEY), names.get(OTHER));
    let commit = match random.u8(..4) {
        0 => Commit::new().require_absent(key),
        1 => Commit::new().require_present(key),
        _ => Commit::new(),
    };
    let commit = match random.u8(..4) {
        0 => commit.set(other, values.small()),
        1 => commit.delete(key).set(other, values.small()),
        2 => commit.set(other, values.small()).set(key, values.small()),
        _ => commit.set(key, values.small()).set(other, values.small()),
    };
    Write::Commit(commit)
}

/// A key, and what a call returned about it.
type Result = std::result::Result<Vec<(usize, Seen)>, StorageError>;

impl Action {
    /// Performs it through a view of the cache.
    ///
    /// # Errors
    /// An outcome that it must not have.
    pub(crate) fn perform(&self, scenario: &Scenario, cached: &dyn ComponentStorage) -> Result {
        let names = &scenario.names;
        match self {
            Self::Read(read) => return read.perform(cached, names),
            Self::Write(write, fault) => {
                return write.seen(write.perform(cached, names), fault.is_some());
            }
            Self::End { around, clears } => {
                if let Some(value) = around {
                    scenario.write_around(value.clone())?;
                }
                match clears {
                    true => scenario.clear(),
                    false => scenario.clock.advance(TTL),
                }
            }
            Self::Evict(Some(value)) => {
                for filler in FILLERS {
                    cached.set(names.get(filler), value.clone())?;
                }
            }
            Self::Evict(None) => {
                let read = |filler| Ok((filler, Seen::Value(cached.get(names.get(filler))?)));
                return FILLERS.into_iter().map(read).collect();
            }
        }
        Ok(Vec::new())
    }
}

impl Read {
    pub(crate) const ALL: [Self; 6] = [
        Self::TryGet,
        Self::Exists,
        Self::Get,
        Self::GetVersioned,
        Self::GetMany { reversed: false },
        Self::GetMany { reversed: true },
    ];

    pub(crate) fn perform(self, cached: &dyn ComponentStorage, names: &Names) -> Result {
        let key = names.get(KEY);
        let seen = match self {
            Self::Get => Seen::Value(cached.get(key)?),
            Self::GetVersioned => Seen::Versioned(cached.get_versioned(key)?),
            Self::Exists => Seen::Present(cached.exists(key)?),
            Self::TryGet => match cached.try_get("", key) {
                Some(value) => Seen::Value(value),
                None => return Ok(Vec::new()),
            },
            Self::GetMany { reversed } => {
                let keys = if reversed { [OTHER, KEY] } else { [KEY, OTHER] };
                let found = cached.get_many(&keys.map(|key| names.get(key)))?;
                return Ok(keys.into_iter().zip(found.into_iter().map(Seen::Value)).collect());
            }
        };
        Ok(vec![(KEY, seen)])
    }
}

impl Write {
    fn perform(
        &self,
        cached: &dyn ComponentStorage,
        names: &Names,
    ) -> std::result::Result<(), StorageError> {
        let key = names.get(KEY);
        match self {
            Self::Set(value) => cached.set(key, value.clone()),
            Self::Delete => cached.delete(key),
            Self::Commit(commit) => cached.commit(commit.clone()).map(drop),
        }
    }

    /// What an outcome says about the key: what a check found.
    fn seen(&self, outcome: std::result::Result<(), StorageError>, fails: bool) -> Result {
        let check = match self {
            Self::Commit(commit) => commit.checks.first(),
            _ => None,
        };
        let present = match (outcome, fails, check) {
            (Err(StorageError::IoError(_)), true, _) | (Ok(()), false, None) => {
                return Ok(Vec::new());
            }
            (Ok(()), false, Some(check)) => check.expected == Expected::Present,
            (Err(StorageError::AlreadyExists(_)), false, Some(_)) => true,
            (Err(StorageError::NotFound(_)), false, Some(_)) => false,
            (Ok(()), true, _) => {
                return Err(StorageError::IoError("a failed write was acknowledged".into()));
            }
            (Err(error), ..) => return Err(error),
        };
        Ok(vec![(KEY, Seen::Present(present))])
    }
}
