//! Moves a large store in every way an operator can, through the `storage-host` command, while
//! guests write.
//!
//! 1. A store of many components is filled, and served: clients sign a guestbook without a pause.
//! 2. It is exported meanwhile. The archive must have every value, and a consistent guestbook.
//! 3. The archive is imported into a store of each engine. One import is killed and repeated.
//! 4. Archives with one wrong byte, and truncated ones, must be refused with a line number.
//! 5. A component is wiped and copied back.
//!
//! After each step the store is verified. Every store must hold the same bytes.

mod archive;
mod command;
mod content;
mod damage;
mod guestbook;
mod report;
mod steps;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Moves a large store in every way an operator can, while guests write
#[derive(Debug, Parser)]
struct Arguments {
    /// The storage-host command
    #[arg(long, value_name = "FILE")]
    command: PathBuf,

    /// The guestbook component
    #[arg(long, value_name = "FILE")]
    guestbook: PathBuf,

    /// Keys in all components together
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,

    /// Components
    #[arg(long, default_value_t = 1_000)]
    components: u64,

    /// Wrong bytes to try, and as many truncated archives
    #[arg(long, default_value_t = 1_000)]
    damages: u64,

    /// Stores to import into
    #[arg(long, value_delimiter = ',', default_value = "redb,file")]
    engines: Vec<String>,

    /// The URL of an empty PostgreSQL database, to import into that too
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,

    /// Where to put the stores; a temporary directory if omitted
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

fn main() -> Result<()> {
    steps::run(&Arguments::parse())
}
