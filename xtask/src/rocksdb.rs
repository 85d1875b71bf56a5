//! RocksDB's C++, compiled once.
//!
//! Cargo would compile it again for each selection of packages and features, because
//! its build script shares dependencies with procedural macros. So it is built in a
//! target directory of its own, and later steps link the library (`ROCKSDB_LIB_DIR`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::workspace::{Workspace, cargo, succeed};

/// Environment variables for cargo, such as the location of the library.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// Finds libclang, which generates the bindings. As root on Debian, installs it.
///
/// # Errors
/// If it is missing. The message contains the command to run.
pub(crate) fn require_libclang() -> Result<()> {
    if has_libclang() {
        return Ok(());
    }
    packages::install(&["libclang-dev"])?;
    if !has_libclang() {
        bail!("libclang-dev is installed, but libclang.so was not found: set LIBCLANG_PATH");
    }
    Ok(())
}

fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let mut directories: Vec<PathBuf> = named.into_iter().collect();
    directories.extend(
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu"].map(Into::into),
    );
    directories.push("/usr/lib/aarch64-linux-gnu".into());
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    directories.extend(
        versions
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"))
            .map(|entry| entry.path().join("lib")),
    );
    directories.iter().any(|directory| contains_libclang(directory))
}

fn contains_libclang(directory: &Path) -> bool {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|name| {
        // libclang-cpp is another library.
        name.starts_with("libclang.so")
            || name.starts_with("libclang-")
                && name.contains(".so")
                && !name.starts_with("libclang-cpp")
    })
}

/// Compiles the C++ if necessary and returns the variables that link the library.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build(root: &Path) -> Result<Variables> {
    if let Ok(directory) = std::env::var("ROCKSDB_LIB_DIR") {
        println!("using RocksDB from ROCKSDB_LIB_DIR={directory}");
        return Ok(vec![("ROCKSDB_LIB_DIR", directory), ("ROCKSDB_STATIC", "1".to_owned())]);
    }
    let target = Workspace::load(root)?.target_directory.join("rocksdb");
    println!("compiling RocksDB's C++, which takes many minutes the first time");
    let mut command = cargo(root);
    command.args(["build", "--quiet", "--locked", "--package", "storage-backends"]);
    command.args(["--no-default-features", "--features", "rocksdb", "--target-dir"]).arg(&target);
    succeed(&mut command, "cargo build of RocksDB")?;
    let library = newest_library(&target)?;
    let directory = library.parent().context("the library has no parent directory")?;
    Ok(vec![
        ("ROCKSDB_LIB_DIR", directory.display().to_string()),
        ("ROCKSDB_STATIC", "1".to_owned()),
    ])
}

/// The library that was built last. Older versions of the crate leave theirs.
fn newest_library(target: &Path) -> Result<PathBuf> {
    let builds = target.join("debug/build");
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(&builds).with_context(|| format!("cannot list {}", builds.display()))?
    {
        let library = entry?.path().join("out/librocksdb.a");
        if let Ok(metadata) = library.metadata() {
            found.push((metadata.modified()?, library));
        }
    }
    let newest = found.into_iter().max();
    newest
        .map(|(_, library)| library)
        .with_context(|| format!("there is no librocksdb.a in {}", builds.display()))
}
