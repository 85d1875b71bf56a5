//! The stores under test, and the two ways to open each.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use storage_backends::ProblemKind;
use storage_core::{Problem, StorageError, Store};
use storage_host::StoreUrl;

/// A store under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Engine {
    File,
    Redb,
    #[value(name = "rocksdb")]
    RocksDb,
    /// Its path is the rest of the URL.
    #[cfg(feature = "postgres")]
    Postgres,
    /// Its path is a [`Location`](crate::redis::Location).
    #[cfg(feature = "redis")]
    Redis,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// A power cut.
    Sync,
    /// Less: the control, in which power cuts must lose something.
    Relaxed,
}

impl Engine {
    /// Whether this program was built with the store.
    pub(crate) fn is_built(self) -> bool {
        let path = match self {
            Self::File | Self::Redb | Self::RocksDb => "path",
            #[cfg(feature = "postgres")]
            Self::Postgres => "//user@localhost/database",
            // Opened without the host.
            #[cfg(feature = "redis")]
            Self::Redis => return true,
        };
        format!("{self}:{path}").parse::<StoreUrl>().is_ok()
    }

    fn url(self, path: &Path) -> Result<StoreUrl, StorageError> {
        let url = format!("{self}:{}", path.display()).parse::<StoreUrl>();
        url.map_err(|error| StorageError::Unsupported(error.to_string()))
    }

    /// Opens the store for writing.
    pub(crate) fn open(self, mode: Mode, path: &Path) -> Result<Arc<dyn Store>, StorageError> {
        #[cfg(feature = "redis")]
        if self == Self::Redis {
            return crate::redis::open(mode, path);
        }
        let url = match mode {
            Mode::Sync => self.url(path)?,
            Mode::Relaxed => self.url(path)?.relaxed(),
        };
        url.open(storage_host::Mode::ReadWrite)
    }

    /// Verifies a store that is not open, and returns the damage.
    pub(crate) fn verify(self, path: &Path) -> Result<Vec<String>, StorageError> {
        let mut damage = Vec::new();
        let mut report = |problem: Problem| {
            if problem.kind == ProblemKind::Damage {
                damage.push(problem.to_string());
            }
        };
        #[cfg(feature = "redis")]
        if self == Self::Redis {
            crate::redis::verify(path, &mut report)?;
            return Ok(damage);
        }
        self.url(path)?.verify(&mut report)?;
        Ok(damage)
    }

    /// How many random faults of each kind to inject if the order of the system calls
    /// differs from run to run.
    pub(crate) fn sample(self) -> Option<usize> {
        // More than 300, because some hit before the store is opened.
        (self == Self::RocksDb).then_some(400)
    }

    /// Whether the data is in a server, and not in files of the process.
    pub(crate) fn is_server(self) -> bool {
        match self {
            Self::File | Self::Redb | Self::RocksDb => false,
            #[cfg(feature = "postgres")]
            Self::Postgres => true,
            #[cfg(feature = "redis")]
            Self::Redis => true,
        }
    }

    /// Whether the server has all data in memory, and may be one of a cluster.
    pub(crate) fn has_memory_only(self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis => true,
            _ => false,
        }
    }

    /// Whether relaxed writes survive the death of the process.
    pub(crate) fn relaxed_survives_kills(self) -> bool {
        self != Self::Redb
    }

    /// Whether a power cut may leave corrupt values or parts of commits in relaxed mode.
    /// The file store cannot order writes to different files.
    pub(crate) fn relaxed_may_tear(self) -> bool {
        self == Self::File
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Redb => "redb",
            Self::RocksDb => "rocksdb",
            #[cfg(feature = "postgres")]
            Self::Postgres => "postgres",
            #[cfg(feature = "redis")]
            Self::Redis => "redis",
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
