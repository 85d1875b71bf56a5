//! The memory that a copy, an export and an import take. It is counted per process, so this
//! test is alone in its process.

#![cfg(feature = "file")]
#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

use peak_alloc::PeakAlloc;
use storage_host::{ComponentStorage, CopyOptions, Mode, StoreUrl, copy_store};
#[cfg(feature = "archive")]
use storage_host::{check_archive, export_store, import_archive};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const VALUES: usize = 400;
const VALUE: usize = 256 << 10;

/// A batch that waits, as it was read and as it is written.
const MOST: usize = 32 << 20;

/// Runs `work`, which must not take more than [`MOST`].
fn bounded<T>(work: impl FnOnce() -> T) -> T {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let done = work();
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    assert!(taken < MOST, "{} bytes of {}", taken, VALUES * VALUE);
    done
}

#[test]
fn the_memory_of_a_copy_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, mode| {
        let url = StoreUrl::from_path(dir.path().join(name));
        url.relaxed().open(mode).unwrap()
    };
    let source = open("from", Mode::ReadWrite);
    for number in 0..VALUES {
        source.set(&format!("a/b/c/{number}"), vec![7; VALUE].into()).unwrap();
    }
    drop(source);
    let (from, to) = (open("from", Mode::ReadOnly), open("to", Mode::ReadWrite));
    for written in [VALUES, 0] {
        let copied =
            bounded(|| copy_store(&from, &to, CopyOptions::new(), &mut |_, _| {}).unwrap());
        assert_eq!(copied.written.keys, written as u64);
        assert_eq!(copied.total().keys, VALUES as u64);
    }
    #[cfg(feature = "archive")]
    {
        use std::io::{BufReader, BufWriter};

        let path = dir.path().join("archive");
        let file = || BufReader::new(std::fs::File::open(&path).unwrap());
        bounded(|| {
            let mut out = BufWriter::new(std::fs::File::create(&path).unwrap());
            export_store(&from, None, &mut out, &mut |_, _| {}).unwrap();
        });
        let to = open("imported", Mode::ReadWrite);
        let options = CopyOptions::new();
        bounded(|| check_archive(&mut file(), None, &options, &mut |_, _| {}).unwrap());
        for written in [VALUES, 0] {
            let imported =
                bounded(|| import_archive(&mut file(), &to, &options, &mut |_, _| {}).unwrap());
            assert_eq!(imported.written.keys, written as u64);
        }
    }
}
