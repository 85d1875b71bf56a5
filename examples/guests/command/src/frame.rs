//! The frame of a command: arguments, output, exit code.

use std::fmt;
use std::io::{self, Write};

use crate::{StorageError, explain};

/// Why a command fails.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// Invalid usage: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// The command failed: exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::failed(explain(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::failed(format!("cannot write the output: {error}"))
    }
}

/// Calls `body` with the arguments and standard output, writes a failure to
/// standard error, and ends the component.
pub fn run(name: &str, body: impl FnOnce(&[&str], &mut dyn Write) -> Result<(), Failure>) -> ! {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut out = io::stdout().lock();
    let ended = body(&args, &mut out).and_then(|()| Ok(out.flush()?));
    let code = match ended {
        Ok(()) => 0,
        Err(failure) => {
            // The outputs may be closed; the exit code still reports the failure.
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "{name}: {failure}");
            failure.code
        }
    };
    exit(code)
}

/// Ends the component with `code`.
///
/// `std::process::exit` reports only success or failure, so the host sees 1 for
/// every failure. The call used here needs a host with WASI 0.2.12 or later.
pub fn exit(code: u8) -> ! {
    wasip2::cli::exit::exit_with_code(code);
    // Not reached: the host ends the component in the call above.
    std::process::exit(code.into())
}
