//! Why the command fails, as text or JSON, with its exit code.

use std::fmt;
use std::io;
use std::process::ExitCode;

use storage_host::{CopyError, ExportError, ImportError, StorageError, StoreUrl};

use super::stderr;

/// Something that ends the command.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error, to be shown.
    Error {
        /// Identifies the error for programs.
        kind: &'static str,
        message: String,
    },
    /// The reader of the output has closed it (`keys | head`), which counts as success.
    OutputClosed,
}

/// A component does not fit in its quota.
const QUOTA: &str = "quota_exceeded";

/// Exit code if something was not found or failed.
const FAILED: u8 = 1;
/// Exit code of errors that do not depend on the store.
pub(super) const WRONG_USAGE: u8 = 2;

impl Failure {
    pub(super) fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self::Error { kind, message: message.into() }
    }

    /// Why a store does not open.
    pub(super) fn of_opening(store: &StoreUrl, error: &StorageError) -> Self {
        let message = match error {
            // The detail is a whole sentence.
            StorageError::IoError(detail) => format!("cannot open the store \"{store}\": {detail}"),
            error => format!("cannot open the store \"{store}\": {error}"),
        };
        Self::Error { kind: kind_of(error), message }
    }

    /// Why a store was not copied.
    pub(super) fn of_copy(error: CopyError) -> Self {
        let kind = match &error {
            CopyError::OtherData { .. } => {
                let message = format!(
                    "{error}; the target is unchanged. To overwrite its values with the source's and \
                     keep its other keys, add --merge"
                );
                return Self::Error { kind: "other_data", message };
            }
            CopyError::Source(error)
            | CopyError::Target(error)
            | CopyError::Flush(error)
            | CopyError::Write { error, .. } => kind_of_transfer(error),
            CopyError::Quota(_) => QUOTA,
            _ => "io",
        };
        let resume = match &error {
            CopyError::Write { .. } | CopyError::Flush(_) | CopyError::Quota(_) => {
                "; fix this and run the copy again to continue"
            }
            _ => "",
        };
        Self::Error { kind, message: format!("{error}{resume}") }
    }

    /// Why a store was not exported.
    pub(super) fn of_export(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => {
                let kind = kind_of(&error);
                Self::Error { kind, message: format!("cannot export the store: {error}") }
            }
            error => Self::new("output", error.to_string()),
        }
    }

    /// Why an archive was not imported.
    pub(super) fn of_import(error: &ImportError) -> Self {
        let kind = match error {
            ImportError::Refused { .. } => "archive",
            ImportError::OtherData { .. } => {
                return Self::new(
                    "other_data",
                    format!(
                        "{error}; to overwrite its values with the archive's and keep its other \
                         keys, add --merge"
                    ),
                );
            }
            ImportError::Quota(_) => QUOTA,
            ImportError::Target(
                CopyError::Target(error) | CopyError::Flush(error) | CopyError::Write { error, .. },
            ) => kind_of_transfer(error),
            _ => "io",
        };
        Self::new(kind, error.to_string())
    }

    /// Why a preset key was not set.
    pub(super) fn of_preset(key: &str, error: StorageError) -> Self {
        Self::Error { kind: kind_of(&error), message: format!("cannot preset {key:?}: {error}") }
    }

    /// The same failure with more text at the end of its message.
    pub(super) fn with(self, text: &str) -> Self {
        match self {
            Self::Error { kind, message } => {
                Self::Error { kind, message: format!("{message}{text}") }
            }
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    pub(super) fn is_of_kind(&self, wanted: &str) -> bool {
        matches!(self, Self::Error { kind, .. } if *kind == wanted)
    }

    /// Why the output was not written.
    pub(super) fn of_output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::new("output", format!("cannot write the output: {error}")),
        }
    }

    /// Combines the outcome of a command with the result of writing its output. A closed
    /// output does not change the outcome.
    pub(super) fn outcome_of<T>(
        written: Result<(), Self>,
        outcome: Result<T, Self>,
    ) -> Result<T, Self> {
        match written {
            Ok(()) | Err(Self::OutputClosed) => outcome,
            Err(failure) => Err(failure),
        }
    }

    /// Shows the failure and returns the exit code.
    pub(super) fn report(self, json: bool) -> ExitCode {
        self.report_with_status(0, json)
    }

    /// Like [`report`](Self::report), but returns at least `status`.
    pub(super) fn report_with_status(self, status: u8, json: bool) -> ExitCode {
        match self {
            Self::OutputClosed => ExitCode::from(status),
            Self::Error { kind, message } => {
                let code = match kind {
                    "usage" | "invalid_key" => WRONG_USAGE,
                    _ => FAILED,
                };
                let code = code.max(status);
                show(kind, &message, code, json);
                ExitCode::from(code)
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { message, .. } => f.write_str(message),
            Self::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}

/// The name in JSON of an error of a transfer, in which a key that is too long is not of the command
/// line.
fn kind_of_transfer(error: &StorageError) -> &'static str {
    match kind_of(error) {
        "invalid_key" => "limit_exceeded",
        kind => kind,
    }
}

/// The name of an error in JSON.
fn kind_of(error: &StorageError) -> &'static str {
    match error {
        StorageError::NotFound(_) => "not_found",
        StorageError::AlreadyExists(_) => "already_exists",
        StorageError::QuotaExceeded => QUOTA,
        StorageError::InvalidKey(_) => "invalid_key",
        StorageError::Conflict(_) => "conflict",
        StorageError::Unsupported(_) => "unsupported",
        StorageError::Corrupt { .. } => "corrupt",
        StorageError::Unavailable { .. } => "unavailable",
        StorageError::UnreadableComponent { .. } => "unreadable",
        StorageError::Locked(_) => "locked",
        StorageError::ReadOnly => "read_only",
        StorageError::AccessDenied(_) => "access_denied",
        StorageError::LimitExceeded { .. } => "limit_exceeded",
        _ => "io",
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Error { kind: kind_of(&error), message: error.to_string() }
    }
}

/// Prints an error as text or JSON.
pub(super) fn show(kind: &str, message: &str, code: u8, json: bool) {
    match json {
        true => stderr::json_error(kind, message, code),
        false => stderr::line(format_args!("error: {message}")),
    }
}
