//! `drill`: builds the command and moves a large store with it.

use std::path::Path;

use anyhow::Result;

use crate::rocksdb;
use crate::servers::POSTGRES;
use crate::workspace::{Workspace, cargo, succeed};

/// Runs the drill with these arguments, on every engine that this machine can build.
///
/// # Errors
/// If a step of it fails.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let mut engines = vec!["rocksdb", "redb", "file"];
    let mut features = vec!["storage-host/postgres"];
    let mut variables = rocksdb::Variables::new();
    match rocksdb::require_libclang() {
        Ok(()) => {
            variables = rocksdb::build(root)?;
            features.push("storage-host/rocksdb");
        }
        Err(error) => {
            println!("SKIPPED rocksdb: {error:#}");
            engines.remove(0);
        }
    }
    // Runs until the drill has ended.
    let server = POSTGRES.install().and_then(|()| POSTGRES.start(root));
    if let Err(error) = &server {
        println!("SKIPPED PostgreSQL: {error:#}");
    }
    let mut build = cargo(root);
    build.args(["build", "--quiet", "--release", "--package", "storage-host", "--features"]);
    build.arg(features.join(",")).envs(variables.iter().map(|(name, value)| (name, value)));
    succeed(&mut build, "the build of storage-host")?;

    let target = Workspace::load(root)?.target_directory;
    let mut drill = cargo(root);
    drill.args(["run", "--quiet", "--release", "--package", "drill", "--", "--command"]);
    drill.arg(target.join("release/storage-host"));
    drill.arg("--guestbook").arg(root.join("examples/guests/guestbook.wasm"));
    drill.args(["--engines", &engines.join(",")]);
    if let Ok(server) = &server {
        drill.arg("--postgres").arg(server.url());
    }
    succeed(drill.args(arguments), "the drill")
}
