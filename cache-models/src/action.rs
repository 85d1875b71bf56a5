//! What a thread does to the cache, and what it is told.

use storage_core::{Commit, ComponentStorage, Expected, StorageError, StorageValue};

use crate::below::Fault;
use crate::history::Saw;
use crate::setup::{Setup, TTL};
use crate::values::{FILLERS, KEY, Names, OTHER};

/// An operation with its details.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Read(Read),
    Write(Write, Option<Fault>),
    /// What is kept comes to its end: it is dropped, or expires.
    End {
        /// What is written around the cache first, if anything; `None` deletes.
        around: Option<Option<StorageValue>>,
        drops: bool,
    },
    /// Writes this under other keys, or reads them.
    Evict(Option<StorageValue>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    Get,
    /// Of the two keys, in one order or the other.
    GetMany {
        turned: bool,
    },
    GetVersioned,
    TryGet,
    Exists,
}

#[derive(Debug, Clone)]
pub(crate) enum Write {
    Set(StorageValue),
    Put(StorageValue),
    Delete,
    Commit(Commit),
}

/// What a call has told about a key.
type Told = (usize, Saw);

impl Action {
    /// Does it, and tells what it saw.
    ///
    /// # Errors
    /// An outcome that it cannot have.
    pub(crate) fn perform(
        &self,
        setup: &Setup,
        cached: &dyn ComponentStorage,
    ) -> Result<Vec<Told>, StorageError> {
        let names = &setup.names;
        match self {
            Self::Read(read) => read.perform(cached, names),
            Self::Write(write, fault) => {
                let outcome = write.perform(cached, names);
                write.told(outcome, fault.is_some())
            }
            Self::End { around, drops } => {
                if let Some(value) = around {
                    setup.write_around(value.clone())?;
                }
                if *drops {
                    setup.clear();
                } else {
                    setup.clock.advance(TTL);
                }
                Ok(Vec::new())
            }
            Self::Evict(with) => {
                let mut told = Vec::new();
                for filler in FILLERS {
                    match with {
                        Some(value) => cached.set(names.get(filler), value.clone())?,
                        None => told.push((filler, Saw::Value(cached.get(names.get(filler))?))),
                    }
                }
                Ok(told)
            }
        }
    }
}

impl Read {
    pub(crate) const ALL: [Self; 6] = [
        Self::TryGet,
        Self::Exists,
        Self::Get,
        Self::GetVersioned,
        Self::GetMany { turned: false },
        Self::GetMany { turned: true },
    ];

    pub(crate) fn perform(
        self,
        cached: &dyn ComponentStorage,
        names: &Names,
    ) -> Result<Vec<Told>, StorageError> {
        let key = names.get(KEY);
        let saw = match self {
            Self::Get => Saw::Value(cached.get(key)?),
            Self::GetVersioned => Saw::Versioned(cached.get_versioned(key)?),
            Self::Exists => Saw::Present(cached.exists(key)?),
            Self::TryGet => match cached.try_get(key) {
                Some(value) => Saw::Value(value),
                None => return Ok(Vec::new()),
            },
            Self::GetMany { turned } => {
                let keys = if turned { [OTHER, KEY] } else { [KEY, OTHER] };
                let found = cached.get_many(&keys.map(|key| names.get(key)))?;
                return Ok(keys.into_iter().zip(found.into_iter().map(Saw::Value)).collect());
            }
        };
        Ok(vec![(KEY, saw)])
    }
}

impl Write {
    fn perform(&self, cached: &dyn ComponentStorage, names: &Names) -> Result<(), StorageError> {
        let key = names.get(KEY);
        match self {
            Self::Set(value) => cached.set(key, value.clone()),
            Self::Put(value) => cached.put(key, value.clone()).map(drop),
            Self::Delete => cached.delete(key),
            Self::Commit(commit) => cached.commit(commit.clone()).map(drop),
        }
    }

    /// What an outcome tells about the key: what a check has found.
    fn told(
        &self,
        outcome: Result<(), StorageError>,
        fails: bool,
    ) -> Result<Vec<Told>, StorageError> {
        let checks = match self {
            Self::Commit(commit) => commit.checks.as_slice(),
            _ => &[],
        };
        let present = match (outcome, fails, checks.first()) {
            (Err(StorageError::IoError(_)), true, _) => return Ok(Vec::new()),
            (Ok(()), true, _) => {
                return Err(StorageError::IoError("it was acknowledged, and failed".into()));
            }
            (Ok(()), false, None) => return Ok(Vec::new()),
            (Ok(()), false, Some(check)) => check.expected == Expected::Present,
            (Err(StorageError::AlreadyExists(_)), false, Some(_)) => true,
            (Err(StorageError::NotFound(_)), false, Some(_)) => false,
            (Err(error), ..) => return Err(error),
        };
        Ok(vec![(KEY, Saw::Present(present))])
    }
}
