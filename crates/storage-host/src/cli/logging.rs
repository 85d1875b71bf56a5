//! The log, on standard error.

use std::io;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use super::failure::Failure;

/// The variable with the level.
const VARIABLE: &str = "STORAGE_HOST_LOG";

/// The crates of this project, whose lines are logged at the requested level.
const OWN_CRATES: [&str; 4] = ["storage_host", "storage_backends", "storage_cache", "storage_core"];
/// The most detailed level of all other crates. wasmtime-wasi alone logs several lines of the
/// levels below for each call of a component.
const OTHER_CRATES: LevelFilter = LevelFilter::INFO;
/// It warns of what any component can cause at will.
const HTTP_CRATE: &str = "wasmtime_wasi_http";

/// Starts the log, at a default level. With `json` each line is an object with `level`,
/// `message` and the fields of the event.
///
/// # Errors
/// If the requested level is unknown.
pub(super) fn start(json: bool, default: LevelFilter) -> Result<(), Failure> {
    let level = requested()?.unwrap_or(default);
    let levels = Targets::new().with_default(level.min(OTHER_CRATES));
    let levels = levels.with_target(HTTP_CRATE, level.min(LevelFilter::ERROR));
    let levels = levels.with_targets(OWN_CRATES.map(|own| (own, level)));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .with_ansi(false)
        // It reports a line that cannot be written with `eprintln!`, which then panics.
        .log_internal_errors(false);
    let lines = match json {
        true => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        false => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(levels)).init();
    Ok(())
}

/// The requested level, if there is a request.
fn requested() -> Result<Option<LevelFilter>, Failure> {
    let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    text.parse().map(Some).map_err(|_| {
        let message = format!(
            "invalid value {text:?} of {VARIABLE}; it is off, error, warn, info, debug or trace"
        );
        Failure::new("usage", message)
    })
}
