//! `durability`: builds the durability suite, a program of its own, and runs it.

use std::path::Path;

use anyhow::Result;

use crate::workspace::{cargo, succeed};
use crate::{packages, rocksdb};

/// Runs the suite with these arguments.
///
/// # Errors
/// If a part fails, or RocksDB is asked for and cannot be built.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    packages::install_durability_programs();
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--package", "durability"]);
    // It takes minutes to build: only where it is asked for.
    if arguments.iter().any(|argument| argument.contains("rocksdb")) {
        rocksdb::require_libclang()?;
        command.args(["--features", "rocksdb"]).envs(rocksdb::build(root)?);
    }
    succeed(command.arg("--").args(arguments), "the durability suite")
}
