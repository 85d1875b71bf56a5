//! Attacks of hostile guests.
//!
//! Each test runs with a synchronous and with an asynchronous linker, each time in a new
//! process with a store on disk, a victim that keeps a secret in
//! it and calls storage all the time, and hand-written guests that attack. Afterwards
//! the process has not panicked and has used at most [`arena::ALLOWED`] more memory than
//! the guests, the secret is unchanged, no guest has seen it or the store's path, and the
//! store is undamaged. See docs/security.md.

#![cfg(all(feature = "async", feature = "file", feature = "redb"))]
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
mod linkage;
mod measure;

mod crowds;
mod cursors;
mod encodings;
mod errors;
mod handles;
mod limits;
mod lists;
mod logs;
mod names;
mod pointers;
mod realloc;
mod runaway;
mod sizes;

#[global_allocator]
static ALLOCATED: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

/// The table in docs/security.md names each case, and no other.
#[test]
fn the_documentation_names_every_case() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/security.md")).unwrap();
    let mut cases = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(root.join("tests/hostile")).unwrap() {
        let file = file.unwrap().path();
        let module = file.file_stem().and_then(|name| name.to_str()).unwrap();
        if module == "main" || file.is_dir() {
            continue;
        }
        let source = std::fs::read_to_string(&file).unwrap();
        let tests = source.split("#[test]\nfn ").skip(1);
        cases.extend(tests.map(|test| format!("{module}::{}", test.split('(').next().unwrap())));
    }
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let named = rows.filter(|case| case.contains("::")).map(ToOwned::to_owned).collect();
    assert_eq!(cases, named);
}
