//! Archives: the keys and values of a store as lines of JSON, which detect any change.
//!
//! `docs/formats.md` specifies the format. An archive is written and read as a stream, in
//! memory that depends on the largest value and not on the number of keys.

mod error;
mod export;
mod import;
mod lines;
mod reader;
mod writer;

pub use error::{ExportError, ImportError};
pub use export::{Exported, export_store};
pub use import::{Imported, check_archive, import_archive};
