//! The entries in the store.
//!
//! | key | value |
//! |---|---|
//! | `count` | the number of entries, in decimal digits |
//! | `entry/ID` | an entry as JSON; a later one has a lower id |

use serde::{Deserialize, Serialize};

use crate::bindings::airssys::core::errors::StorageError;
use crate::bindings::airssys::storage::extended::{Check, Error, Expected, Store, Write};

const COUNT: &str = "count";
const ENTRIES: &str = "entry/";
/// The hexadecimal digits of an id.
const DIGITS: usize = 16;

const MAX_NAME_CHARS: usize = 80;
const MAX_TEXT_CHARS: usize = 2_000;

/// What a visitor writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// An entry with its id.
#[derive(Debug, Serialize)]
pub(crate) struct Signed {
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) entry: Entry,
}

/// Some of the entries, the latest first.
#[derive(Debug, Serialize)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Signed>,
    /// The number of all entries.
    pub(crate) count: u64,
    /// The id to continue after; `None` on the last page.
    pub(crate) next: Option<String>,
}

/// Why the book cannot do something.
pub(crate) enum Problem {
    /// The visitor's mistake.
    Invalid(&'static str),
    /// The quota of the component is used up.
    Full,
    /// The store failed.
    Store(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Storage(StorageError::QuotaExceeded) => Self::Full,
            Error::Storage(StorageError::IoError(text)) => Self::Store(text),
            error => Self::Store(format!("{error:?}")),
        }
    }
}

pub(crate) struct Book(Store);

impl Book {
    pub(crate) fn open() -> Result<Self, Problem> {
        Ok(Self(Store::open("")?))
    }

    /// Adds an entry and returns it. It and its place in the count are stored together.
    pub(crate) fn sign(&self, entry: Entry) -> Result<Signed, Problem> {
        check(&entry)?;
        let value =
            serde_json::to_vec(&entry).map_err(|error| Problem::Store(error.to_string()))?;
        loop {
            let (before, expected) = self.count()?;
            let count = before.saturating_add(1);
            let id = format!("{:0DIGITS$x}", u64::MAX - count);
            let check = Check { key: COUNT.to_owned(), expected };
            let writes = [
                Write::Set((COUNT.to_owned(), count.to_string().into_bytes())),
                Write::Set((format!("{ENTRIES}{id}"), value.clone())),
            ];
            match self.0.commit(&[check], &writes) {
                Ok(_) => return Ok(Signed { id, entry }),
                // Another instance was first: count again.
                Err(Error::Conflict(_) | Error::Storage(StorageError::AlreadyExists(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads at most `limit` entries after one with this id, or the latest.
    pub(crate) fn page(&self, after: Option<&str>, limit: u32) -> Result<Page, Problem> {
        if after.is_some_and(|id| !is_id(id)) {
            return Err(Problem::Invalid("after is not the id of an entry"));
        }
        let after = after.map(|id| format!("{ENTRIES}{id}"));
        let found = self.0.list_page(ENTRIES, after.as_deref(), limit)?;
        let values = self.0.get_many(&found.keys)?;
        let id = |key: &String| key.trim_start_matches(ENTRIES).to_owned();
        let entries = found.keys.iter().zip(values).filter_map(|(key, value)| {
            // Another program may have written something else.
            let entry = serde_json::from_slice(&value?).ok()?;
            Some(Signed { id: id(key), entry })
        });
        let entries = entries.collect();
        let next = found.keys.last().filter(|_| found.more).map(id);
        Ok(Page { entries, count: self.count()?.0, next })
    }

    /// The number of entries, and a check that it has not changed.
    fn count(&self) -> Result<(u64, Expected), Problem> {
        let Some(found) = self.0.get_versioned(COUNT)? else { return Ok((0, Expected::Absent)) };
        let count = str::from_utf8(&found.value).ok().and_then(|digits| digits.parse().ok());
        let count = count.ok_or_else(|| Problem::Store("the count is not a number".to_owned()))?;
        Ok((count, Expected::Revision(found.revision)))
    }
}

fn is_id(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check(entry: &Entry) -> Result<(), Problem> {
    let has = |text: &str, most: usize| !text.trim().is_empty() && text.chars().count() <= most;
    if !has(&entry.name, MAX_NAME_CHARS) {
        return Err(Problem::Invalid("the name must have 1 to 80 characters"));
    }
    if !has(&entry.text, MAX_TEXT_CHARS) {
        return Err(Problem::Invalid("the text must have 1 to 2,000 characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_16_lower_hexadecimal_digits() {
        assert!(is_id("ffffffffffffff0f"));
        for text in
            ["", "ffffffffffffff0", "ffffffffffffff0ff", "FFFFFFFFFFFFFF0F", "../../../../../x"]
        {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn names_and_texts_are_bounded() {
        let is_valid = |name: &str, text: &str| {
            check(&Entry { name: name.to_owned(), text: text.to_owned() }).is_ok()
        };
        assert!(is_valid("\u{e4}", &"\u{e4}".repeat(2_000)));
        for (name, text) in [("", "x"), (" ", "x"), ("x", "\n"), ("x", "")] {
            assert!(!is_valid(name, text));
        }
        assert!(!is_valid(&"x".repeat(81), "x") && !is_valid("x", &"x".repeat(2_001)));
    }
}
