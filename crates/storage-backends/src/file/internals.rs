//! The file store's part of what the fuzz targets reach.

use storage_core::Revision;

use super::journal::{Entry, Journal};
use super::name::{self, Decoded};
use super::revisions;

/// What a file's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileName {
    /// The text that it was made from.
    Text(String),
    /// That the text was too long.
    Hashed,
    /// That it is none of the store's.
    Foreign,
}

/// The name of the file, or folder, for a text.
pub fn file_name(text: &str) -> String {
    name::encode(text)
}

/// Reads such a name.
pub fn read_file_name(name: &str) -> FileName {
    match name::decode(name) {
        Decoded::Text(text) => FileName::Text(text),
        Decoded::Hashed => FileName::Hashed,
        Decoded::Foreign => FileName::Foreign,
    }
}

/// The keys of a commit, and whether each is set or deleted.
pub type JournalWrites = Vec<(String, bool)>;

/// The journal of a commit.
pub fn journal(revision: Revision, writes: &[(String, bool)]) -> Vec<u8> {
    let entry = |(key, sets): &(String, bool)| Entry { key: key.clone(), sets: *sets };
    Journal { revision, entries: writes.iter().map(entry).collect() }.encode()
}

/// Reads a journal.
///
/// # Errors
/// What is wrong with it.
pub fn read_journal(bytes: &[u8]) -> Result<(Revision, JournalWrites), &'static str> {
    let journal = Journal::decode(bytes)?;
    let writes = journal.entries.into_iter().map(|entry| (entry.key, entry.sets)).collect();
    Ok((journal.revision, writes))
}

/// A slot of the counter of revisions.
pub fn counter_slot(reserved_up_to: u64) -> Vec<u8> {
    revisions::slot_bytes(reserved_up_to)
}

/// The first number that is not reserved; `None` if the counter is damaged.
pub fn read_counter(bytes: &[u8]) -> Option<u64> {
    revisions::read(bytes)
}
