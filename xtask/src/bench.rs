//! `bench`: builds one of the benchmark programs and runs it.

use std::path::Path;

use anyhow::Result;

use crate::rocksdb;
use crate::workspace::{cargo, succeed};

/// Runs a program of testing/benches.
///
/// # Errors
/// If it does not build, or fails.
pub(crate) fn run(root: &Path, program: &str, arguments: &[String]) -> Result<()> {
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--release", "--package", "benches", "--bin", program]);
    if program == "async-calls" {
        command.args(["--features", "async"]);
    } else if program == "guests" {
        command.args(["--features", "guests"]);
    } else if program == "postgres" {
        command.args(["--features", "postgres"]);
    } else if program != "cache" && needs_rocksdb(arguments) {
        rocksdb::require_libclang()?;
        println!(
            "compiling RocksDB's C++ takes minutes the first time; --engine file,redb avoids it"
        );
        command.args(["--features", "rocksdb"]);
    }
    succeed(command.arg("--").args(arguments), "the benchmark")
}

/// Without `--engine` all engines are measured.
fn needs_rocksdb(arguments: &[String]) -> bool {
    let help = arguments.iter().any(|one| one == "--help" || one == "-h");
    let chosen = arguments.iter().any(|one| one.starts_with("--engine"));
    !help && (!chosen || arguments.iter().any(|one| one.contains("rocksdb")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rocksdb_is_compiled_only_if_it_is_measured() {
        let needs = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            needs_rocksdb(&arguments)
        };
        assert!(needs("") && needs("--quick"));
        assert!(needs("--engine rocksdb --quick") && needs("--engine=file,rocksdb"));
        assert!(!needs("--engine redb") && !needs("--engine=file --quick") && !needs("--help"));
    }
}
