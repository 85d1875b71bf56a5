//! `bench`: builds a comparison, a program of its own, and runs it.

use std::path::Path;

use anyhow::Result;

use crate::rocksdb;
use crate::workspace::{cargo, succeed};

/// Runs the comparison of the stores with what lies below them.
///
/// # Errors
/// If it does not build, or fails.
pub(crate) fn engines(root: &Path, arguments: &[String]) -> Result<()> {
    of_stores(root, "engines", arguments)
}

/// Measures what the first budget of a large component takes.
///
/// # Errors
/// If it does not build, or fails.
pub(crate) fn ledger(root: &Path, arguments: &[String]) -> Result<()> {
    of_stores(root, "ledger", arguments)
}

fn of_stores(root: &Path, program: &str, arguments: &[String]) -> Result<()> {
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--release", "--package", "benches"]);
    command.args(["--bin", program]);
    if needs_rocksdb(arguments) {
        rocksdb::require_libclang()?;
        println!("RocksDB's C++ is compiled first: minutes, once; --engine file,redb does without");
        command.args(["--features", "rocksdb"]);
    }
    succeed(command.arg("--").args(arguments), "the comparison")
}

/// Runs the comparison of the cache with others.
///
/// # Errors
/// If it does not build, or fails.
pub(crate) fn cache(root: &Path, arguments: &[String]) -> Result<()> {
    let package = ["--quiet", "--release", "--package", "benches"];
    let mut command = cargo(root);
    command.arg("build").args(package).args(["--bin", "cache-bytes"]);
    succeed(&mut command, "building what counts bytes for the comparison")?;
    let mut command = cargo(root);
    command.arg("run").args(package).args(["--bin", "cache", "--"]).args(arguments);
    succeed(&mut command, "the comparison")
}

/// All engines are measured where none is named.
fn needs_rocksdb(arguments: &[String]) -> bool {
    let is_named = |argument: &String| argument.starts_with("--engine");
    let asks_for_help = arguments.iter().any(|one| one == "--help" || one == "-h");
    !asks_for_help
        && (!arguments.iter().any(is_named) || arguments.iter().any(|one| one.contains("rocksdb")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cxx_is_compiled_only_where_it_is_asked_for() {
        let needs = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            needs_rocksdb(&arguments)
        };
        assert!(needs(""));
        assert!(needs("--quick"));
        assert!(needs("--engine rocksdb --quick"));
        assert!(needs("--engine=file,rocksdb"));
        assert!(!needs("--engine redb"));
        assert!(!needs("--engine=file --engine redb --quick"));
        assert!(!needs("--help"));
    }
}
