//! What the benchmark programs share: the engines, measurements of two sides in turns,
//! and tables. `cargo xtask bench --help` lists the programs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command reports to its user")]

pub mod hosts;
pub mod machine;
pub mod measure;
pub mod report;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use storage_core::Store;
use storage_host::{Mode, StoreUrl};

/// The exit code of a program that ended with this result. Prints the error.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A store that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The file store.
    File,
    /// The redb store.
    Redb,
    /// The RocksDB store.
    Rocksdb,
}

impl Engine {
    /// The engines in this build.
    pub const BUILT: &'static [Self] = if cfg!(feature = "rocksdb") {
        &[Self::File, Self::Redb, Self::Rocksdb]
    } else {
        &[Self::File, Self::Redb]
    };

    /// Opens a store of this engine. Without `sync` its writes are not durable at once.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(self, path: &Path, sync: bool) -> Result<Arc<dyn Store>> {
        let url: StoreUrl = format!("{self}:{}", path.display()).parse()?;
        let url = if sync { url } else { url.relaxed() };
        Ok(url.open(Mode::ReadWrite)?)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Redb => "redb",
            Self::Rocksdb => "rocksdb",
        })
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Everything.
    Full,
    /// As little as shows that it works.
    Quick,
}

impl Size {
    /// The first number for a full measurement, or else the second.
    pub fn pick(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
