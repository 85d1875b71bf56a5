//! The stores under test, and the two ways to open each.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use storage_backends::{Durability, FileOptions, FileStorage, Problem, ProblemKind};
#[cfg(feature = "redb")]
use storage_backends::{RedbOptions, RedbStorage};
#[cfg(feature = "rocksdb")]
use storage_backends::{RocksDbOptions, RocksDbStorage};
use storage_core::{StorageError, Store};

/// A store under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Engine {
    /// A file a key.
    File,
    /// One file, an engine in Rust.
    #[cfg(feature = "redb")]
    Redb,
    /// A folder, an engine in C++.
    #[cfg(feature = "rocksdb")]
    #[value(name = "rocksdb")]
    RocksDb,
}

/// How much a write that was acknowledged shall survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A power cut.
    Sync,
    /// Less, so that power cuts must take something: the control.
    Relaxed,
}

impl Engine {
    /// Every store that this program was built with.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Opens the store to write.
    pub(crate) fn open(self, mode: Mode, path: &Path) -> Result<Arc<dyn Store>, StorageError> {
        let durability = match mode {
            Mode::Sync => Durability::Sync,
            Mode::Relaxed => Durability::Os,
        };
        Ok(match self {
            Self::File => {
                let options = FileOptions::default().with_durability(durability);
                Arc::new(FileStorage::open(path, options)?)
            }
            #[cfg(feature = "redb")]
            Self::Redb => {
                let options = RedbOptions::default().with_durability(match mode {
                    Mode::Sync => Durability::Sync,
                    Mode::Relaxed => Durability::Interval,
                });
                Arc::new(RedbStorage::open(path, options)?)
            }
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => {
                let options = RocksDbOptions::default().with_durability(durability);
                Arc::new(RocksDbStorage::open(path, options)?)
            }
        })
    }

    /// The stores that this program could have been built with, and was not.
    pub(crate) fn not_built_in() -> Vec<&'static str> {
        let every = [("redb", cfg!(feature = "redb")), ("rocksdb", cfg!(feature = "rocksdb"))];
        every.iter().filter(|(_, built_in)| !built_in).map(|(name, _)| *name).collect()
    }

    /// Reads the whole store, which nobody has open, and tells what is wrong.
    pub(crate) fn verify(self, path: &Path) -> Result<Vec<String>, StorageError> {
        let mut problems = Vec::new();
        let mut report = |problem: Problem| {
            if problem.kind == ProblemKind::Damage {
                problems.push(problem.to_string());
            }
        };
        match self {
            Self::File => FileStorage::verify(path, &mut report)?,
            #[cfg(feature = "redb")]
            Self::Redb => RedbStorage::verify(path, &mut report)?,
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => RocksDbStorage::verify(path, &mut report)?,
        };
        Ok(problems)
    }

    /// How many random faults of each kind to try, where the calls come in no
    /// order that could be repeated.
    pub(crate) fn sample(self) -> Option<usize> {
        match self {
            #[cfg(feature = "rocksdb")]
            // More than 300, for some come before the store is opened.
            Self::RocksDb => Some(400),
            _ => None,
        }
    }

    /// Whether relaxed writes outlive the process, if not a power cut.
    pub(crate) fn relaxed_outlives_kills(self) -> bool {
        match self {
            #[cfg(feature = "redb")]
            Self::Redb => false,
            _ => true,
        }
    }

    /// Whether a power cut may leave a value that reads as corrupt, or part of a
    /// commit, when durability is relaxed. With no order between files there is
    /// no more to promise.
    pub(crate) fn relaxed_may_tear(self) -> bool {
        matches!(self, Self::File)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            #[cfg(feature = "redb")]
            Self::Redb => "redb",
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => "rocksdb",
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sync => "sync",
            Self::Relaxed => "relaxed",
        })
    }
}
