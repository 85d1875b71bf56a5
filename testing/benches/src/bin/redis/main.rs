//! The Redis store on servers that this program starts.
//!
//! `cargo xtask bench redis --help`
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command reports to its user")]

mod callers;
mod calls;
mod client;
mod engines;
mod hosts;
mod raw;
mod recorder;
mod servers;

use std::process::ExitCode;

use anyhow::Result;
use benches::{Size, machine};
use clap::Parser;

/// Measure the Redis store on servers on loopback, which run until the measurement ends.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench redis", bin_name = "cargo xtask bench redis")]
struct Arguments {
    /// What to measure.
    #[arg(long, value_delimiter = ',', default_values = ["client", "async", "hosts", "engines"])]
    part: Vec<Part>,
    /// Measure few operations.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Part {
    /// The store compared with the crate redis, which sends the same commands.
    ///
    /// The commands are those that the server's MONITOR shows for calls of the store. Each
    /// caller of the crate has a connection of its own; the store has its default pool. The
    /// server syncs once a second, so that its disk does not hide what a client costs.
    Client,
    /// 64 callers of the store compared with 64 connections of the crate, and 64 tasks that
    /// share one connection of the crate.
    Async,
    /// How soon a host reads what another one has written, and what a cached hit costs.
    Hosts,
    /// PostgreSQL, Redis and a Redis cluster side by side, for docs/scaling.md.
    Engines,
}

const COMPONENT: &str = "bench/app/main/";
const VALUE: &[u8] = &[b'v'; 100];

fn main() -> ExitCode {
    benches::exit_code(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    println!("{}", machine::describe());
    for part in &arguments.part {
        let measured = match part {
            Part::Client => client::measure(size),
            Part::Async => callers::measure(size),
            Part::Hosts => hosts::measure(size),
            Part::Engines => engines::measure(size),
        };
        println!("\n{}load average {}", measured?, machine::load());
    }
    Ok(())
}
