//! The cache beside others: what a hit costs, and how often there is one.
//!
//! `cargo xtask bench cache --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command reports to its user")]

mod asked;
mod document;
mod hits;
mod literal;
mod memory;
mod plots;
mod rate_tables;
mod rates;
mod sides;
mod turns;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use benches::traces::{self, Extent, PERCENT_IN_BYTES};
use benches::{Size, machine};
use clap::{Parser, ValueEnum};

use rates::Tried;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a hit costs, beside the bare cache and other ways to have one.
    Hits,
    /// How often there is a hit on given traces, and what asking costs.
    Traces,
}

impl Part {
    /// What its markers in the documentation begin with.
    fn name(self) -> &'static str {
        match self {
            Self::Hits => "cache-hits",
            Self::Traces => "cache-traces",
        }
    }
}

/// The cache beside others, measured in turns.
///
/// Prints, as tables, what a hit costs beside one of the bare cache below, and
/// hit rates, costs and memory on traces beside those of other caches; and
/// whether that meets its targets. Writes the tables of each part into benchmarks.md,
/// between the part's markers, and draws them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cache", bin_name = "cargo xtask bench cache")]
struct Arguments {
    /// Measure one part alone.
    #[arg(long)]
    part: Option<Part>,
    /// A tenth of the keys and few rounds, to see that it works; write nothing.
    #[arg(long)]
    quick: bool,
    /// The folder of benchmarks.md, and of the pictures in images.
    #[arg(long, value_name = "PATH", default_value = "docs")]
    docs: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let images = arguments.docs.join("images");
    for part in [Part::Hits, Part::Traces] {
        if arguments.part.is_some_and(|only| only != part) {
            continue;
        }
        let load = machine::load();
        let (tables, image, picture) = match part {
            Part::Hits => {
                let hits = hits::run(size)?;
                let text = format!("### What a hit costs\n\n{}\n", hits.text);
                (text, "cache-hits.svg", plots::hits(&hits.figures)?)
            }
            Part::Traces => {
                let (text, tried) = rates(size)?;
                (text, "cache-rates.svg", plots::rates(&tried)?)
            }
        };
        let (machine, after) = (machine::describe(), machine::load());
        let tables = format!("{tables}{machine}; load before and after: {load} and {after}.\n");
        println!("{tables}");
        if size == Size::Full {
            plots::write(&images.join(image), &picture)?;
            document::write(&arguments.docs.join("benchmarks.md"), part.name(), &tables)?;
        }
    }
    Ok(())
}

/// The tables of the traces, and what they were made of.
fn rates(size: Size) -> Result<(String, Vec<Tried>)> {
    let extent = Extent::of(size);
    let traces = traces::all(extent)?;
    let keys = traces::keys(&traces);
    let tried = rates::by_entries(&traces, &keys, &extent.rooms(), size)?;
    let in_bytes = rates::by_bytes(&traces, &keys, extent)?;
    let text = format!(
        "### Hit rates\n\n{}\n### What an access costs\n\nIn nanoseconds, {}:\n\n{}\n\
         ### What is held\n\n{}\n### With {PERCENT_IN_BYTES} % of the bytes\n\n{}\n",
        rate_tables::rates(&tried),
        rate_tables::names().replace(" | ", " / "),
        rate_tables::costs(&tried),
        memory::table(size)?,
        rate_tables::in_bytes(&in_bytes),
    );
    Ok((text, tried))
}
