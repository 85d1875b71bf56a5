//! The log, on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;

/// The variable with the level.
const VARIABLE: &str = "STORAGE_HOST_LOG";

/// Starts the log. An unknown level counts as the default, `error`. With `json` each line is
/// an object with `level`, `message` and the fields of the event.
pub(super) fn start(json: bool) {
    let requested = requested().and_then(|level| level.parse().ok());
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(requested.unwrap_or(LevelFilter::ERROR))
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // It reports a line that cannot be written with `eprintln!`, which then panics.
        .log_internal_errors(false);
    match json {
        true => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        false => log.init(),
    }
}

/// The requested level, if it is invalid.
pub(super) fn unknown_level() -> Option<String> {
    requested().filter(|level| level.parse::<LevelFilter>().is_err())
}

fn requested() -> Option<String> {
    std::env::var(VARIABLE).ok()
}
