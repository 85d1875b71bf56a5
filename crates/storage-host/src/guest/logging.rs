//! `wasi:logging`: lines of a component in the log of the host.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use storage_core::ComponentId;
use tracing::Level;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};

use super::call::StateOf;
#[cfg(feature = "serve")]
use crate::component_chain::ComponentChain;
use crate::hidden::is_hidden;
use crate::log_budget::{LOG_TARGET, report};

/// The names under which components import the interface.
pub(super) const INTERFACES: [&str; 2] =
    ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

/// The most bytes of a message in the log, after escaping and without the marker.
const TEXT_BYTES: usize = 4_096;

/// The most bytes of a context in the log.
const CONTEXT_BYTES: usize = 256;

/// `level` of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "wasmtime makes them from the guest's number")]
enum GuestLevel {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// Adds the interface under both names.
pub(super) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    state: StateOf<T>,
) -> wasmtime::Result<()> {
    for name in INTERFACES {
        linker.instance(name)?.func_wrap(
            "log",
            move |mut store, (level, context, message): (GuestLevel, WasmStr, WasmStr)| {
                // A line that no one reads costs nothing, and does not count.
                if !level.is_enabled() {
                    return Ok(());
                }
                let chain = Arc::clone(state.find(store.data_mut()).storage());
                let budgets = chain.log_budgets();
                let Some(suppressed) = budgets.take(chain.id(), Instant::now()) else {
                    return Ok(());
                };
                report(chain.id(), suppressed);
                // One text at a time: decoding can take several times its size.
                let context = one_line(&context.to_str(&store)?, CONTEXT_BYTES).into_owned();
                let text = message.to_str(&store)?;
                level.write(chain.id(), &context, &one_line(&text, TEXT_BYTES));
                Ok(())
            },
        )?;
    }
    Ok(())
}

/// The standard streams of a component that serves requests.
#[cfg(feature = "serve")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandardStream {
    /// Logged as `INFO`.
    Output,
    /// Logged as `WARN`.
    Error,
}

/// Writes a line of a standard stream to the log, as if the component had logged it with the
/// name of the stream as context.
#[cfg(feature = "serve")]
pub(crate) fn log_line(chain: &ComponentChain, stream: StandardStream, text: &str) {
    let (level, context) = match stream {
        StandardStream::Output => (GuestLevel::Info, "stdout"),
        StandardStream::Error => (GuestLevel::Warn, "stderr"),
    };
    if !level.is_enabled() {
        return;
    }
    let Some(suppressed) = chain.log_budgets().take(chain.id(), Instant::now()) else { return };
    report(chain.id(), suppressed);
    level.write(chain.id(), context, &one_line(text, TEXT_BYTES));
}

impl GuestLevel {
    fn is_enabled(self) -> bool {
        match self {
            Self::Trace => tracing::enabled!(target: LOG_TARGET, Level::TRACE),
            Self::Debug => tracing::enabled!(target: LOG_TARGET, Level::DEBUG),
            Self::Info => tracing::enabled!(target: LOG_TARGET, Level::INFO),
            Self::Warn => tracing::enabled!(target: LOG_TARGET, Level::WARN),
            Self::Error | Self::Critical => tracing::enabled!(target: LOG_TARGET, Level::ERROR),
        }
    }

    /// Writes a line. The texts are fields and not the message, so that a component
    /// cannot imitate the other fields.
    fn write(self, component: &ComponentId, context: &str, text: &str) {
        let context = (!context.is_empty()).then_some(context);
        let critical = (self == Self::Critical).then_some(true);
        // The macro needs a constant level.
        macro_rules! write {
            ($level:ident) => {
                tracing::event!(
                    target: LOG_TARGET,
                    Level::$level,
                    %component,
                    critical,
                    context,
                    text,
                    "guest log",
                )
            };
        }
        match self {
            Self::Trace => write!(TRACE),
            Self::Debug => write!(DEBUG),
            Self::Info => write!(INFO),
            Self::Warn => write!(WARN),
            Self::Error | Self::Critical => write!(ERROR),
        }
    }
}

/// A text of a guest on one line of at most `max` bytes: characters that a terminal
/// interprets or that hide others are escaped, and a longer text ends in a marker.
pub(crate) fn one_line(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max && !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut line = String::new();
    for c in text.chars() {
        let escaped = is_hidden(c);
        let len = if escaped { c.escape_default().len() } else { c.len_utf8() };
        if line.len() + len > max {
            return Cow::Owned(format!("{line}... (truncated from {} bytes)", text.len()));
        }
        match escaped {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    Cow::Owned(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_on_one_line() {
        for (text, line) in [
            ("", ""),
            ("caf\u{e9} \\n \"x\" \u{65e5}", "caf\u{e9} \\n \"x\" \u{65e5}"),
            ("a\nERROR b\r\t\0", "a\\nERROR b\\r\\t\\u{0}"),
            ("\u{1b}[2J\u{7f}\u{85}\u{9b}", "\\u{1b}[2J\\u{7f}\\u{85}\\u{9b}"),
            ("\u{202e}x\u{2066}\u{2028}", "\\u{202e}x\\u{2066}\\u{2028}"),
        ] {
            assert_eq!(one_line(text, 100), line, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_truncated_between_characters_and_marked() {
        for (text, line) in [
            ("12345678", "12345678"),
            ("123456789", "12345678... (truncated from 9 bytes)"),
            ("1234567\u{e9}", "1234567... (truncated from 9 bytes)"),
            // The escaped form counts.
            ("1234567\n", "1234567... (truncated from 8 bytes)"),
            ("123456\n", "123456\\n"),
        ] {
            assert_eq!(one_line(text, 8), line, "{text:?}");
        }
        let noise = "\0".repeat(1 << 20);
        assert_eq!(one_line(&noise, TEXT_BYTES).len(), 4_095 + 34);
    }
}
