//! `bench`: builds one of the benchmark programs and runs it.

use std::path::Path;

use anyhow::Result;

use crate::rocksdb;
use crate::workspace::{Workspace, cargo, succeed};

/// Runs a program of testing/benches.
///
/// # Errors
/// If it does not build, or fails.
pub(crate) fn run(root: &Path, program: &str, arguments: &[String]) -> Result<()> {
    let mut arguments = arguments.to_vec();
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--release", "--package", "benches", "--bin", program]);
    if program == "async-calls" {
        command.args(["--features", "async"]);
    } else if program == "guests" {
        command.args(["--features", "guests"]);
    } else if program == "serve" {
        command.args(["--features", "serve"]);
        if !asks_for_help(&arguments) {
            arguments.splice(0..0, server(root)?);
        }
    } else if program == "postgres" {
        command.args(["--features", "postgres"]);
    } else if program == "redis" {
        command.args(["--features", "redis"]);
    } else if program != "cache" && needs_rocksdb(&arguments) {
        rocksdb::require_libclang()?;
        println!(
            "compiling RocksDB's C++ takes minutes the first time; --engine file,redb avoids it"
        );
        command.args(["--features", "rocksdb"]);
    }
    succeed(command.arg("--").args(arguments), "the benchmark")
}

/// Builds the command, and says where it and its components are.
fn server(root: &Path) -> Result<[String; 4]> {
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--release", "--package", "storage-host"]);
    succeed(&mut build, "the build of storage-host")?;
    let program = Workspace::load(root)?.target_directory.join("release/storage-host");
    let guests = root.join("examples/guests");
    let [program, guests] = [program, guests].map(|path| path.display().to_string());
    Ok(["--storage-host".to_owned(), program, "--guests".to_owned(), guests])
}

/// Without `--engine` all engines are measured.
fn needs_rocksdb(arguments: &[String]) -> bool {
    let chosen = arguments.iter().any(|one| one.starts_with("--engine"));
    !asks_for_help(arguments) && (!chosen || arguments.iter().any(|one| one.contains("rocksdb")))
}

fn asks_for_help(arguments: &[String]) -> bool {
    arguments.iter().any(|one| one == "--help" || one == "-h")
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
