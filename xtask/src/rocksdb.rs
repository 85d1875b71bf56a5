//! RocksDB's C++, compiled once.
//!
//! Cargo would compile it anew for each choice of packages and features, because
//! the crate's build script shares dependencies with procedural macros of ours;
//! that is many minutes each time. So it is built alone, in a target folder of
//! its own, and every later step links what came out (`ROCKSDB_LIB_DIR`).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::packages;
use crate::workspace::{Workspace, cargo, succeed};

/// Where the library is, as the crate's build script wants to be told.
pub(crate) type Variables = Vec<(&'static str, String)>;

/// Finds libclang, which the bindings are made with. On Debian, as root, it is
/// installed if it is missing.
///
/// # Errors
/// What is missing, and the one command that brings it.
pub(crate) fn require_libclang() -> Result<()> {
    if has_libclang() {
        return Ok(());
    }
    println!("libclang, which the bindings of RocksDB are made with, is missing");
    packages::install(&["libclang-dev"])?;
    if !has_libclang() {
        bail!("libclang-dev is installed, and libclang.so is not found: set LIBCLANG_PATH");
    }
    Ok(())
}

fn has_libclang() -> bool {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let mut folders: Vec<PathBuf> = named.into_iter().collect();
    folders.extend(
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu"].map(Into::into),
    );
    folders.push("/usr/lib/aarch64-linux-gnu".into());
    let versions = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.extend(
        versions
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"))
            .map(|entry| entry.path().join("lib")),
    );
    folders.iter().any(|folder| holds_libclang(folder))
}

fn holds_libclang(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|name| {
        // Not libclang-cpp, which is another library.
        name.starts_with("libclang.so")
            || name.starts_with("libclang-")
                && name.contains(".so")
                && !name.starts_with("libclang-cpp")
    })
}

/// Compiles the C++, or finds it compiled, and tells where the library is.
///
/// # Errors
/// If it does not compile.
pub(crate) fn build(root: &Path) -> Result<Variables> {
    if let Ok(folder) = std::env::var("ROCKSDB_LIB_DIR") {
        println!("RocksDB is taken from ROCKSDB_LIB_DIR={folder}");
        return Ok(vec![("ROCKSDB_LIB_DIR", folder), ("ROCKSDB_STATIC", "1".to_owned())]);
    }
    let target = Workspace::load(root)?.target_directory.join("rocksdb");
    println!("compiling RocksDB's C++, which takes many minutes the first time");
    let mut command = cargo(root);
    command.args(["build", "--quiet", "--locked", "--package", "storage-backends"]);
    command.args(["--no-default-features", "--features", "rocksdb", "--target-dir"]).arg(&target);
    succeed(&mut command, "RocksDB does not compile: cargo")?;
    let library = newest_library(&target)?;
    let folder = library.parent().context("the library lies in no folder")?;
    Ok(vec![("ROCKSDB_LIB_DIR", folder.display().to_string()), ("ROCKSDB_STATIC", "1".to_owned())])
}

/// The library that was built last: an update of the crate leaves an older one.
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
        .with_context(|| format!("no librocksdb.a below {}", builds.display()))
}
