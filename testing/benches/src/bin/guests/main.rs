//! What a storage call costs a guest, compared with a host function that does nothing and
//! with other implementations of `wasi:keyvalue`.
//!
//! `cargo xtask bench guests --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command reports to its user")]

mod cases;
mod floor;
mod guest;
mod per_call;
mod shared_map;
mod sides;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use benches::{Size, machine};
use clap::Parser;

use crate::cases::{CASES, Case};
use crate::guest::{Guests, Kind};
use crate::sides::Sides;

/// Measure storage calls of guests.
///
/// Prints tables for docs/benchmarks.md, with targets and whether they are met. All sides
/// take turns.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench guests", bin_name = "cargo xtask bench guests")]
struct Arguments {
    /// Measure only calls of this guest.
    #[arg(long)]
    guest: Option<Kind>,
    /// Measure only calls whose names contain this text.
    #[arg(long, value_name = "TEXT")]
    call: Option<String>,
    /// The directory for the stores' files.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// Measure few rounds.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let parent = &arguments.directory;
    let directory = tempfile::tempdir_in(parent)
        .with_context(|| format!("cannot create a directory in {}", parent.display()))?;
    let guests = Guests::compile()?;
    let load = machine::load();
    for kind in [Kind::Rust, Kind::Wat] {
        if arguments.guest.is_some_and(|only| only != kind) {
            continue;
        }
        println!("### {}\n", kind.title());
        let mut sides = Sides::open(&guests, kind, &directory.path().join(kind.name()))?;
        let wanted = |case: &&Case| {
            arguments.call.as_ref().is_none_or(|text| case.to_string().contains(text))
        };
        for case in CASES.iter().filter(wanted) {
            let measured = sides.measure(case, size)?;
            println!("{}", table::of(kind, case, &measured));
        }
    }
    println!("{}; load {load} before, {} after", machine::describe(), machine::load());
    Ok(())
}
