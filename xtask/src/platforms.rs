//! The oldest supported Rust, other operating systems, and packages for crates.io.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::{Workspace, cargo, output, succeed, words};

/// The libraries without wasmtime, which needs a newer Rust and takes long to build.
const LIBRARIES: &str = "check --locked --package storage-core --package storage-cache \
                         --package storage-backends --package storage-host \
                         --package storage-guest \
                         --no-default-features --features storage-core/conformance,\
                         storage-host/memory,storage-host/file,storage-host/redb,\
                         storage-host/manifest,storage-host/signals,storage-host/admin,\
                         storage-guest/json";

const LIBRARY_PACKAGES: [&str; 5] =
    ["storage-core", "storage-cache", "storage-backends", "storage-host", "storage-guest"];

const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];

/// Compiles the libraries with the oldest Rust that their manifests promise.
///
/// # Errors
/// If they do not compile.
pub(crate) fn msrv(root: &Path) -> Result<()> {
    let workspace = Workspace::load(root)?;
    let oldest = workspace.package("storage-core").and_then(|core| core.rust_version.clone());
    let oldest = oldest.context("storage-core has no rust-version")?;
    let toolchains = rustup(&["toolchain", "list"]);
    let prefix = format!("{oldest}.");
    let Some(toolchain) = toolchains.split_whitespace().find(|name| name.starts_with(&prefix))
    else {
        println!("SKIPPED Rust {oldest}: rustup toolchain install {oldest}.0 --profile minimal");
        return Ok(());
    };
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo"]).args(words(LIBRARIES)).current_dir(root);
    succeed(&mut command, &format!("cargo check with Rust {oldest}"))
}

/// Compiles the libraries for Windows and macOS.
///
/// # Errors
/// If they do not compile.
pub(crate) fn check(root: &Path) -> Result<()> {
    let installed = rustup(&["target", "list", "--installed"]);
    for target in TARGETS {
        if installed.lines().any(|name| name == target) {
            let mut command = cargo(root);
            command.args(words(LIBRARIES)).args(["--target", target]);
            succeed(&mut command, &format!("cargo check for {target}"))?;
        } else {
            println!("SKIPPED {target}: rustup target add {target}");
        }
    }
    Ok(())
}

/// The output of rustup. Empty if it is not installed.
fn rustup(arguments: &[&str]) -> String {
    output(Command::new("rustup").args(arguments)).unwrap_or_default()
}

/// Packages the libraries as `cargo publish` does, without compiling them.
///
/// # Errors
/// If one cannot be packaged.
pub(crate) fn package(root: &Path) -> Result<()> {
    let mut command = cargo(root);
    command.args(["package", "--quiet", "--locked", "--allow-dirty", "--no-verify"]);
    for library in LIBRARY_PACKAGES {
        command.args(["--package", library]);
    }
    succeed(&mut command, "cargo package")
}
