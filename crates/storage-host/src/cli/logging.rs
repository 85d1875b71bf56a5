//! The log, on standard error.

use std::io;

use tracing_subscriber::filter::LevelFilter;

/// Where the level stands.
const VARIABLE: &str = "STORAGE_HOST_LOG";

/// Begins to log. An unknown level is the default, `error`. With `json` each line
/// is an object with the fields `level` and `message` and those of the event.
pub(super) fn start(json: bool) {
    let asked = asked().and_then(|level| level.parse().ok());
    let log = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(asked.unwrap_or(LevelFilter::ERROR))
        .with_target(false)
        .without_time()
        .with_ansi(false);
    match json {
        true => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        false => log.init(),
    }
}

/// The level that was asked for, if it is none.
pub(super) fn unknown_level() -> Option<String> {
    asked().filter(|level| level.parse::<LevelFilter>().is_err())
}

fn asked() -> Option<String> {
    std::env::var(VARIABLE).ok()
}
