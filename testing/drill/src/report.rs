//! The table of what each step took.

use std::time::Duration;

#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn start() {
    println!("| step | took | keys per second | peak memory |\n|---|---|---|---|");
}

/// Prints a step as a row. `keys` are those that the step has processed; `peak` is in KiB.
#[expect(clippy::print_stdout, reason = "the table is the result")]
pub(crate) fn row(step: &str, took: Duration, keys: Option<u64>, peak: Option<u64>) {
    let seconds = took.as_secs_f64();
    let rate = keys.map_or_else(|| "-".to_owned(), |keys| format!("{:.0}", keys as f64 / seconds));
    let peak = peak.map_or_else(|| "-".to_owned(), |peak| format!("{} MiB", peak.div_ceil(1_024)));
    println!("| {step} | {seconds:.1} s | {rate} | {peak} |");
}
