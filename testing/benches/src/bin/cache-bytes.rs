//! What the caches hold after the traces, by the allocator's own count. Started
//! by the comparison of the caches, which counts nothing: counting takes time.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

use std::process::ExitCode;

use anyhow::Result;
use benches::Size;
use benches::caches::{self, Bound, Kind};
use benches::keys::Maker;
use benches::traces::{self, Extent};
use clap::Parser;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What the caches hold, as lines of numbers for `cargo xtask bench cache`.
#[derive(Debug, Parser)]
struct Arguments {
    /// Short traces.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(if arguments.quick { Size::Quick } else { Size::Full }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints, for each size of values, bound and cache: these, the bytes that were
/// allocated and the bytes that the cache says it holds, the most after any trace.
fn run(size: Size) -> Result<()> {
    let extent = Extent::of(size);
    let traces = traces::all(extent)?;
    let keys = traces::keys(&traces);
    for value_bytes in [100, 4096] {
        let of_entries = extent.rooms().map(|(_, entries)| Bound::Entries(entries));
        let of_bytes = Bound::Bytes(extent.budget(keys.len_each(), value_bytes));
        for bound in of_entries.into_iter().chain([of_bytes]) {
            for kind in Kind::ALL {
                let (mut allocated, mut stated) = (0, 0);
                for trace in &traces {
                    let maker = Maker::new(value_bytes);
                    let before = ALLOCATED.current_usage();
                    let cache = kind.build(bound, &maker);
                    caches::replay(trace, &keys, 1, &*cache)?;
                    allocated = allocated.max(ALLOCATED.current_usage().saturating_sub(before));
                    stated = stated.max(cache.stated_bytes().unwrap_or_default());
                }
                let (unit, most) = match bound {
                    Bound::Entries(most) => ("entries", most),
                    Bound::Bytes(most) => ("bytes", most),
                };
                println!("{value_bytes} {most} {unit} {} {allocated} {stated}", kind.name());
            }
        }
    }
    Ok(())
}
