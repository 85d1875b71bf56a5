//! The frame of a small command: arguments in, text out, an exit code.

use std::fmt;
use std::io::{self, Write};

use crate::{StorageError, explain};

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The command was called as it cannot be: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// The command could not do what it was asked to: exit code 1.
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

/// Calls `body` with the arguments after the command's own name and with
/// standard output, writes a failure to standard error behind `name`, and ends
/// the component.
pub fn run(name: &str, body: impl FnOnce(&[&str], &mut dyn Write) -> Result<(), Failure>) -> ! {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut out = io::stdout().lock();
    let ended = body(&args, &mut out).and_then(|()| Ok(out.flush()?));
    let code = match ended {
        Ok(()) => 0,
        Err(failure) => {
            // What was done before the failure is shown all the same. Where
            // the outputs are closed, the exit code is what is left.
            let _ = out.flush();
            let _ = writeln!(io::stderr(), "{name}: {failure}");
            failure.code
        }
    };
    exit(code)
}

/// Ends the component with `code`.
///
/// `std::process::exit` cannot: the call that it makes tells the host success
/// or failure, and a failure arrives there as 1 whatever the code. The call made
/// here needs a host with WASI 0.2.12 or later.
pub fn exit(code: u8) -> ! {
    wasip2::cli::exit::exit_with_code(code);
    // Not reached: the host ends the component in the call above.
    std::process::exit(code.into())
}
