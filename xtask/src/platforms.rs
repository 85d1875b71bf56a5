//! The oldest Rust, other operating systems, and the packages for crates.io.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::checks::Step;
use crate::workspace::{Workspace, cargo, output, succeed};

/// What the libraries support without wasmtime, which needs the newest Rust.
const WIRING: &str = "--package storage-core --package storage-cache --package storage-backends \
                      --package storage-host --no-default-features --features \
                      storage-core/conformance,storage-host/memory,storage-host/file,\
                      storage-host/redb,storage-host/manifest,storage-host/signals";
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];

/// The libraries in the order of their dependencies.
const LIBRARIES: [&str; 4] = ["storage-core", "storage-cache", "storage-backends", "storage-host"];

/// The steps for which rustup has installed what they need. Prints the others as
/// SKIPPED.
pub(crate) fn steps(workspace: &Workspace) -> Vec<Step> {
    let mut steps = Vec::new();
    let rustup =
        |arguments: &[&str]| output(Command::new("rustup").args(arguments)).unwrap_or_default();
    let oldest = workspace.package("storage-core").and_then(|core| core.rust_version.as_deref());
    let oldest = oldest.unwrap_or_default();
    let toolchains = rustup(&["toolchain", "list"]);
    match toolchains.split_whitespace().find(|name| name.starts_with(&format!("{oldest}."))) {
        Some(name) => {
            steps.push(Step::program(
                "rustup",
                &format!("run {name} cargo check --locked {WIRING}"),
            ));
        }
        None => println!("SKIPPED Rust {oldest}: rustup toolchain install {oldest}.0"),
    }
    let installed = rustup(&["target", "list", "--installed"]);
    for target in TARGETS {
        match installed.lines().any(|name| name == target) {
            true => steps.push(Step::cargo(&format!("check --locked {WIRING} --target {target}"))),
            false => println!("SKIPPED checks for {target}: rustup target add {target}"),
        }
    }
    steps
}

/// Packages the libraries as `cargo publish` does.
///
/// # Errors
/// If one cannot be packaged.
pub(crate) fn package(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args(["package", "--quiet", "--locked", "--allow-dirty", "--no-verify"]);
    for library in LIBRARIES {
        command.args(["--package", library]);
    }
    succeed(&mut command, "cargo package")
}
