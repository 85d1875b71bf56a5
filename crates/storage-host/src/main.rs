//! The `storage-host` command: runs components, and shows what they keep.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
