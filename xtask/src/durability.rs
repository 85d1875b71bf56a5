//! `durability`: builds the durability suite and runs it.

use std::path::Path;

use anyhow::Result;

use crate::servers::ENGINES;
use crate::workspace::{cargo, succeed};
use crate::{packages, rocksdb};

/// Runs the suite with these arguments.
///
/// # Errors
/// If a part fails, or RocksDB cannot be built, or a server not installed.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    packages::install_durability_programs();
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--package", "durability"]);
    // RocksDB takes minutes to build.
    if arguments.iter().any(|argument| argument.contains("rocksdb")) {
        rocksdb::require_libclang()?;
        command.args(["--features", "rocksdb"]).envs(rocksdb::build(root)?);
    }
    for engine in ENGINES {
        if arguments.iter().any(|argument| argument.contains(engine.feature)) {
            engine.install()?;
            command.args(["--features", engine.feature]);
        }
    }
    succeed(command.arg("--").args(arguments), "the durability suite")
}
