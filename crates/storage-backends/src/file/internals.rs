//! The part of the file store that the fuzz targets use.

use storage_core::Revision;

use super::journal::{Entry, Journal};
use super::name::{self, Decoded};
use super::revisions;

/// The result of decoding a file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// The encoded text.
    Text(String),
    /// The text was too long.
    Hashed,
    /// The store does not use this name.
    Foreign,
}

/// The name of the file or directory for a text.
pub fn file_name(text: &str) -> String {
    name::encode(text)
}

/// Decodes such a name.
pub fn read_file_name(name: &str) -> FileName {
    match name::decode(name) {
        Decoded::Text(text) => FileName::Text(text),
        Decoded::Hashed => FileName::Hashed,
        Decoded::Foreign => FileName::Foreign,
    }
}

/// The keys of a commit, and whether each is set or deleted.
pub type JournalWrites = Vec<(String, bool)>;

/// Encodes the journal of a commit.
pub fn journal(revision: Revision, writes: &[(String, bool)]) -> Vec<u8> {
    let entry = |(key, sets): &(String, bool)| Entry { key: key.clone(), sets: *sets };
    Journal { revision, entries: writes.iter().map(entry).collect() }.encode()
}

/// Decodes a journal.
///
/// # Errors
/// What is wrong with it.
pub fn read_journal(bytes: &[u8]) -> Result<(Revision, JournalWrites), &'static str> {
    let journal = Journal::decode(bytes)?;
    let writes = journal.entries.into_iter().map(|entry| (entry.key, entry.sets)).collect();
    Ok((journal.revision, writes))
}

/// A slot of the revision counter.
pub fn counter_slot(reserved_up_to: u64) -> Vec<u8> {
    revisions::slot_bytes(reserved_up_to)
}

/// The first revision that is not reserved; `None` if the counter is damaged.
pub fn read_counter(bytes: &[u8]) -> Option<u64> {
    revisions::read(bytes)
}
