//! Hostile guests, which achieve nothing but their own end.
//!
//! Each test runs in a new process with a store on disk, a victim that keeps a secret in
//! it and calls storage all the time, and hand-written guests that attack. Afterwards
//! the process has not panicked and has used at most [`arena::ALLOWED`] more memory than
//! the guests, the secret is unchanged, no guest has seen it or the store's path, and the
//! store is undamaged. See docs/security.md.

#![cfg(all(feature = "wasmtime", feature = "file", feature = "redb"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "helpers of tests fail and report as tests do"
)]

mod arena;
mod component;
mod guest;
mod measure;

mod crowds;
mod cursors;
mod encodings;
mod errors;
mod handles;
mod limits;
mod lists;
mod names;
mod pointers;
mod realloc;
mod runaway;
mod sizes;

#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// The table in docs/security.md has a line for each case, and for nothing else.
#[test]
fn the_documentation_names_every_case() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/security.md")).unwrap();
    let mut cases = Vec::new();
    for file in std::fs::read_dir(root.join("tests/hostile")).unwrap() {
        let file = file.unwrap().path();
        let Some(module) = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".rs"))
        else {
            continue;
        };
        let source = std::fs::read_to_string(&file).unwrap();
        let tests = source.split("#[test]\nfn ").skip(1);
        let names = tests.map(|test| test.split('(').next().unwrap());
        if module != "main" {
            cases.extend(names.map(|name| format!("`{module}::{name}`")));
        }
    }
    let missing: Vec<_> = cases.iter().filter(|case| !page.contains(*case)).collect();
    assert!(missing.is_empty(), "docs/security.md does not name {missing:?}");
    let named = page.lines().filter(|line| line.starts_with("| `") && line.contains("::")).count();
    assert_eq!(named, cases.len(), "docs/security.md names cases that are not there");
}
