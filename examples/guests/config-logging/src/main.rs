//! Calls every function of `wasi:config` and `wasi:logging`, under each of their names,
//! and prints the results. The lines that it logs are in the log of the host.

#![forbid(unsafe_code)]

mod bindings {
    pub(crate) mod draft {
        wit_bindgen::generate!({ path: "../../../wit/config-draft", world: "imports" });
    }
    pub(crate) mod spin {
        wit_bindgen::generate!({ path: "../../../wit/config-spin", world: "imports" });
    }
    pub(crate) mod rc1 {
        wit_bindgen::generate!({ path: "../../../wit/config-rc1", world: "imports" });
    }
    pub(crate) mod logging_draft {
        wit_bindgen::generate!({ path: "../../../wit/logging-draft", world: "imports" });
    }
    pub(crate) mod logging {
        wit_bindgen::generate!({ path: "../../../wit/logging", world: "imports" });
    }
}

use std::process::ExitCode;

use conformance::command;
use conformance::table::{Answer, Failure, Outcome, Table};

/// An error of `wasi:config`.
struct Failed {
    variant: &'static str,
    text: String,
}

impl Failure for Failed {
    fn variant(&self) -> &'static str {
        self.variant
    }

    fn text(&self) -> Option<&str> {
        Some(&self.text)
    }
}

type Entries = Vec<(String, String)>;

/// `wasi:config` under one of its names.
struct Config {
    name: &'static str,
    get: fn(&str) -> Result<Option<String>, Failed>,
    get_all: fn() -> Result<Entries, Failed>,
}

macro_rules! config {
    ($name:literal, $interface:path, $error:ident) => {{
        use $interface as interface;
        fn error_of(error: interface::$error) -> Failed {
            match error {
                interface::$error::Upstream(text) => Failed { variant: "upstream", text },
                interface::$error::Io(text) => Failed { variant: "io", text },
            }
        }
        Config {
            name: $name,
            get: |name| interface::get(name).map_err(error_of),
            get_all: || interface::get_all().map_err(error_of),
        }
    }};
}

/// `wasi:logging` under one of its names; levels are numbered from `trace` to `critical`.
struct Logging {
    name: &'static str,
    log: fn(usize, &str, &str),
}

macro_rules! logging {
    ($name:literal, $interface:path) => {{
        use interface::Level;
        use $interface as interface;
        Logging {
            name: $name,
            log: |level, context, message| {
                let level = match level {
                    0 => Level::Trace,
                    1 => Level::Debug,
                    2 => Level::Info,
                    3 => Level::Warn,
                    4 => Level::Error,
                    _ => Level::Critical,
                };
                interface::log(level, context, message);
            },
        }
    }};
}

fn main() -> ExitCode {
    command::run("config-logging", |options, table| {
        if options.store.is_some() {
            return Err("these interfaces have no stores".to_owned());
        }
        for config in [
            config!("store@0.2.0-draft", bindings::draft::wasi::config::store, Error),
            config!("store@0.2.0-draft-2024-09-27", bindings::spin::wasi::config::store, Error),
            config!("store@0.2.0-rc.1", bindings::rc1::wasi::config::store, Error),
            config!("runtime@0.2.0-draft", bindings::draft::wasi::config::runtime, ConfigError),
        ] {
            table.group("get-all", |table| entries(table, &config));
        }
        for logging in [
            logging!("logging@0.1.0-draft", bindings::logging_draft::wasi::logging::logging),
            logging!("logging", bindings::logging::wasi::logging::logging),
        ] {
            lines(table, &logging);
        }
        Ok(())
    })
}

/// The entries are what the operator has set, and the same through both functions.
fn entries(table: &mut Table<'_>, config: &Config) -> Result<(), Failed> {
    let Config { name, get, get_all } = config;
    let entries = get_all()?;
    table.leaves("get-all", &format!("{name}: how many entries"), entries.len().to_string());
    let order = if entries.is_sorted() { "ascending" } else { "another" };
    table.leaves("get-all", "in which order", order);
    for (entry, value) in &entries {
        let what = format!("the entry {}", entry.as_bytes().words());
        table.asks("get", &what, &value.as_bytes().words(), get(entry).map(bytes));
    }
    for (what, absent) in [
        ("an absent name", "conformance/absent"),
        ("an absent name with a NUL", "conformance/\0"),
        ("a name of 100,000 bytes", &"n".repeat(100_000)),
    ] {
        table.asks("get", what, "none", get(absent).map(bytes));
    }
    Ok(())
}

fn bytes(value: Option<String>) -> Option<Vec<u8>> {
    value.map(String::into_bytes)
}

/// `log` returns nothing: a case shows that the component goes on.
fn lines(table: &mut Table<'_>, Logging { name, log }: &Logging) {
    for (number, level) in
        ["trace", "debug", "info", "warn", "error", "critical"].iter().enumerate()
    {
        log(number, name, level);
        table.asks("log", &format!("{name}: the level {level}"), "ok", "ok");
    }
    for (what, context, message) in [
        ("the empty text without a context", "", ""),
        ("a line break and an imitated line", "break", "one\n ERROR two component=a/b/c"),
        ("imitated fields", "x\" component=a/b/c text=\"", "x\" component=\"a/b/c"),
        ("characters that change a terminal", "\u{1b}[2J", "\0\u{7f}\u{85}\u{202e}\u{2028}"),
        ("letters, a symbol and an emoji", "\u{e9}", "\u{6f22}\u{2211}\u{1f980}"),
        ("a context of 100,000 bytes", &"c".repeat(100_000), "x"),
        ("a text of 100,000 bytes", "long", &"m".repeat(100_000)),
    ] {
        log(2, context, message);
        table.asks("log", what, "ok", Outcome::new("ok"));
    }
}
