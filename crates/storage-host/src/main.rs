//! The `storage-host` command: runs components, and shows what they store.

// Not forbidden: machine code that was compiled earlier is loaded by unsafe code of
// wasmtime, called in `cli/compiled/code.rs` alone.
#![deny(unsafe_code)]

mod cli;
mod hidden;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
