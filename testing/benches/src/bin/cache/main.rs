//! Compares the cache with quick_cache, moka and an LRU: what a hit costs, and how
//! often there is one.
//!
//! `cargo xtask bench cache --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod hits;
mod keys;
mod rates;
mod traces;

use std::process::ExitCode;

use anyhow::Result;
use benches::{Size, machine};
use clap::{Parser, ValueEnum};

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The cost of a hit, compared with quick_cache, moka and a prefix added by hand.
    Hits,
    /// Hit rates on traces, compared with moka and an LRU.
    Rates,
}

/// Compare the cache with other caches.
///
/// Prints tables for docs/benchmarks.md, with targets and whether they are met.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cache", bin_name = "cargo xtask bench cache")]
struct Arguments {
    /// Measure only this part.
    #[arg(long)]
    part: Option<Part>,
    /// Use a tenth of the keys and few rounds.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    for part in [Part::Hits, Part::Rates] {
        if arguments.part.is_some_and(|only| only != part) {
            continue;
        }
        let load = machine::load();
        println!(
            "{}",
            match part {
                Part::Hits => hits::run(size)?,
                Part::Rates => rates::run(size)?,
            }
        );
        println!("{}; load {load} before, {} after\n", machine::describe(), machine::load());
    }
    Ok(())
}
