//! Measures a page of the keys of one component, alone in a store and among many keys of
//! others.
//!
//! `cargo bench -p storage-backends --bench listing` prints a table for
//! docs/benchmarks.md. The two stores are measured in turns, so that other load on the machine
//! affects both. The figures are medians.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark prints its results and stops at the first error"
)]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use storage_backends::{Durability, FileOptions, FileStorage, MemoryStorage};
use storage_core::{ComponentStorage, PageRequest};

const PAGE: usize = 100;
const TURNS: usize = 301;
const LISTINGS_PER_TURN: u32 = 20;

fn main() {
    println!("| store | keys of others | alone | among them | ratio |");
    println!("|---|---|---|---|---|");
    compare("memory", 1_000_000, |_| Box::new(MemoryStorage::new()));
    compare("file", 100_000, |path| {
        let options = FileOptions::default().with_durability(Durability::Os);
        Box::new(FileStorage::open(path, options).unwrap())
    });
}

fn compare(name: &str, others: usize, open: impl Fn(&Path) -> Box<dyn ComponentStorage>) {
    let directory = tempfile::tempdir().unwrap();
    let alone = open(&directory.path().join("alone"));
    let among = open(&directory.path().join("among"));
    for key in 0..others {
        // A thousand components, before and after the listed one.
        let component = key % 1000;
        among.set(&format!("app/other/{component:03}/key-{key}"), "".into()).unwrap();
    }
    for storage in [&alone, &among] {
        for key in 0..PAGE {
            storage.set(&format!("app/other/500-listed/key-{key:03}"), "".into()).unwrap();
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for which in [turn % 2, 1 - turn % 2] {
            let (storage, times) = match which {
                0 => (&alone, &mut times[0]),
                _ => (&among, &mut times[1]),
            };
            times.push(time_of_listings(&**storage));
        }
    }
    let [alone, among] = times.map(|times| median(times) / LISTINGS_PER_TURN);
    let ratio = among.as_secs_f64() / alone.as_secs_f64();
    println!("| {name} | {others} | {alone:.2?} | {among:.2?} | {ratio:.2} |");
}

fn time_of_listings(storage: &dyn ComponentStorage) -> Duration {
    let request = PageRequest::new(PAGE).with_prefix("app/other/500-listed/");
    let start = Instant::now();
    for _ in 0..LISTINGS_PER_TURN {
        let page = storage.list_page(black_box(request)).unwrap();
        assert_eq!((page.keys.len(), page.more), (PAGE, false));
    }
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
