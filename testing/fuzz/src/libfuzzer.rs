//! The program that makes inputs up: libFuzzer, with its own arguments. The
//! variable `FUZZ_TARGET` names the target. `cargo xtask fuzz` builds and runs it.
#![forbid(unsafe_code)]
#![no_main]
#![expect(clippy::print_stderr, reason = "a command reports to its user")]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET={name} names no target: cargo xtask fuzz --help");
        std::process::exit(2)
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| TARGET.run(bytes));
