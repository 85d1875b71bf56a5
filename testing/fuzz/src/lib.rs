//! What reads bytes that somebody else may have written, fed with arbitrary ones,
//! and whole sequences of storage calls against a model.
//!
//! A target is a function that takes bytes and panics if something is not as it
//! must be. `cargo xtask fuzz` lets libFuzzer look for such bytes; the program
//! `replay` and the tests run what was found before, without libFuzzer.

#![forbid(unsafe_code)]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a target panics when it finds something"
)]

mod input;
mod targets;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Something to feed with bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, that of its folder in `corpus` too.
    pub name: &'static str,
    /// What it may allocate besides [`BYTES_FOR_EACH`] times the input.
    max_bytes: usize,
    run: fn(&[u8]),
}

/// How many bytes of memory a byte of input may take.
const BYTES_FOR_EACH: usize = 64;

/// Every target.
pub const TARGETS: [Target; 11] = [
    target("ids", 64 << 10, targets::ids::run),
    target("keys", 256 << 10, targets::keys::run),
    target("file_names", 64 << 10, targets::file_names::run),
    target("records", 16 << 20, targets::records::run),
    target("damage", 16 << 20, targets::damage::run),
    target("cursors", 2 << 20, targets::cursors::run),
    target("manifest", 16 << 20, targets::manifest::run),
    target("store_urls", 64 << 10, targets::store_urls::run),
    target("calls", 32 << 20, targets::calls::run),
    target("calls_file", 32 << 20, targets::calls::run_file),
    target("calls_redb", 32 << 20, targets::calls::run_redb),
];

const fn target(name: &'static str, max_bytes: usize, run: fn(&[u8])) -> Target {
    Target { name, max_bytes, run }
}

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<Self> {
        TARGETS.into_iter().find(|target| target.name == name)
    }

    /// Feeds it.
    ///
    /// # Panics
    /// If it finds something.
    pub fn run(&self, input: &[u8]) {
        let ((), allocated) = allocated_by(|| (self.run)(input));
        let allowed = self.max_bytes + BYTES_FOR_EACH * input.len();
        assert!(
            allocated <= allowed,
            "an input of {} bytes took {allocated} bytes of memory, more than {allowed}",
            input.len()
        );
    }
}

/// What the call gives, and by how much the memory in use grew meanwhile.
pub(crate) fn allocated_by<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = call();
    (result, MEMORY.peak_usage().saturating_sub(before))
}
