//! Fuzz targets: arbitrary bytes for everything that reads bytes from outside, and
//! sequences of storage calls compared with a model.
//!
//! A target is a function that takes bytes and panics when it finds a bug.
//! `cargo xtask fuzz` runs the targets under libFuzzer. `tests/corpus.rs` runs the
//! committed inputs without it.

#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target panics when it finds a bug"
)]

mod input;
mod targets;

use std::path::Path;

use peak_alloc::PeakAlloc;
use tempfile::TempDir;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// A function under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is also the name of its binary.
    pub name: &'static str,
    /// Its directory in `corpus`. Targets with the same kind of input share one.
    pub corpus: &'static str,
    /// How much it may allocate in addition to [`BYTES_PER_INPUT_BYTE`].
    max_bytes: usize,
    run: fn(&[u8]),
}

/// How much memory each byte of input may take.
const BYTES_PER_INPUT_BYTE: usize = 64;

/// All targets.
pub const TARGETS: [Target; 13] = [
    target("ids", "ids", 64 << 10, targets::ids::run),
    target("keys", "keys", 256 << 10, targets::keys::run),
    target("file_names", "file_names", 64 << 10, targets::file_names::run),
    target("records", "records", 16 << 20, targets::records::run),
    target("damage", "damage", 16 << 20, targets::damage::run),
    target("cursors", "cursors", 2 << 20, targets::cursors::run),
    target("manifest", "manifest", 16 << 20, targets::manifest::run),
    target("archives", "archives", 16 << 20, targets::archives::run),
    target("store_urls", "store_urls", 64 << 10, targets::store_urls::run),
    target("redis_replies", "redis_replies", 32 << 20, targets::redis_replies::run),
    target("calls", "calls", 32 << 20, targets::calls::run),
    target("calls_file", "calls", 32 << 20, targets::calls::run_file),
    target("calls_redb", "calls", 32 << 20, targets::calls::run_redb),
];

const fn target(
    name: &'static str,
    corpus: &'static str,
    max_bytes: usize,
    run: fn(&[u8]),
) -> Target {
    Target { name, corpus, max_bytes, run }
}

/// Runs the target of this name on one input.
///
/// # Panics
/// If the target finds a bug or does not exist.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let ((), allocated) = allocated_by(|| (target.run)(input));
    let allowed = target.max_bytes + BYTES_PER_INPUT_BYTE * input.len();
    assert!(
        allocated <= allowed,
        "an input of {} bytes took {allocated} bytes of memory, more than {allowed}",
        input.len()
    );
}

/// The result of the call, and by how much memory in use grew during it.
pub(crate) fn allocated_by<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = call();
    (result, MEMORY.peak_usage().saturating_sub(before))
}

/// A temporary directory, in memory where possible: the targets test bytes, not disks.
pub(crate) fn temporary_directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}
