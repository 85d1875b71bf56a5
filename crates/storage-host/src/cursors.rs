//! Listings in pages for the drafts of `wasi:keyvalue`. A cursor says where the next
//! page begins: in the first draft it is a number, in the second a text.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage_core::{ComponentId, ComponentStorage, MAX_KEY_BYTES, PageRequest, StorageError};

/// The cursor type of a draft.
pub(crate) trait Cursor: Sized {
    /// Returns the key after which the next page begins.
    ///
    /// # Errors
    /// The message for the guest if the cursor is invalid or expired.
    fn resolve(self, cursors: &Cursors, owner: Option<&ComponentId>) -> Result<String, String>;

    /// Creates the cursor for a page that begins after a key.
    fn after(last: &str, cursors: &Cursors, owner: Option<&ComponentId>) -> Self;
}

/// A number for which the host remembers the key.
impl Cursor for u64 {
    fn resolve(self, cursors: &Cursors, owner: Option<&ComponentId>) -> Result<String, String> {
        cursors.find(owner, self).ok_or_else(|| "cursor expired".to_owned())
    }

    fn after(last: &str, cursors: &Cursors, owner: Option<&ComponentId>) -> Self {
        cursors.remember(owner, last.to_owned())
    }
}

/// The key itself. A cursor that the guest invents is harmless: it only selects a
/// position among the keys that the guest may list.
impl Cursor for String {
    fn resolve(self, _: &Cursors, _: Option<&ComponentId>) -> Result<String, String> {
        if self.len() > MAX_KEY_BYTES {
            return Err(format!(
                "the cursor is invalid: it is longer than any key, which has at most \
                 {MAX_KEY_BYTES} bytes; it has {}",
                self.len()
            ));
        }
        Ok(self)
    }

    fn after(last: &str, _: &Cursors, _: Option<&ComponentId>) -> Self {
        last.to_owned()
    }
}

/// A page of keys, and the cursor of the next one if more follow.
#[derive(Debug)]
pub(crate) struct Page<C> {
    pub(crate) keys: Vec<String>,
    pub(crate) cursor: Option<C>,
}

/// Why a page cannot be listed.
#[derive(Debug)]
pub(crate) enum CannotList {
    /// The cursor is invalid; the message for the guest.
    Cursor(String),
    Storage(StorageError),
}

/// Lists at most `limit` keys with a prefix after a cursor. `owner` is the component that granted
/// access to its keys, if they are not the guest's own.
pub(crate) fn list_keys<C: Cursor>(
    storage: &dyn ComponentStorage,
    cursors: &Cursors,
    owner: Option<&ComponentId>,
    prefix: &str,
    cursor: Option<C>,
    limit: usize,
) -> Result<Page<C>, CannotList> {
    let after = cursor.map(|cursor| cursor.resolve(cursors, owner)).transpose();
    let after = after.map_err(CannotList::Cursor)?;
    let request = PageRequest { prefix, after: after.as_deref(), limit };
    let page = storage.list_page(request).map_err(CannotList::Storage)?;
    let cursor = match (page.keys.last(), page.more) {
        (Some(last), true) => Some(C::after(last, cursors, owner)),
        // Without a cursor the guest would take the page for the whole listing.
        (None, true) => {
            let reason = "the storage below reports more keys but lists none";
            return Err(CannotList::Storage(StorageError::IoError(reason.to_owned())));
        }
        (_, false) => None,
    };
    Ok(Page { keys: page.keys, cursor })
}

/// How many cursors a component can have at a time.
const REMEMBERED: usize = 64;

/// The newest cursors of a component and their keys. Cursors cannot be guessed, and are
/// invalid for other components.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Remembered>>);

#[derive(Debug)]
struct Remembered {
    number: u64,
    /// The owner of the keys, if they are granted.
    owner: Option<ComponentId>,
    /// The last key of the previous page.
    last: String,
}

impl Cursors {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Remembered>> {
        // Every change is one call, so a panic cannot leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a cursor for a page that begins after `last`.
    fn remember(&self, owner: Option<&ComponentId>, last: String) -> u64 {
        // A keyed hash, with a new random key each time.
        let number = RandomState::new().hash_one(&last);
        let mut cursors = self.lock();
        if cursors.len() >= REMEMBERED {
            cursors.pop_front();
        }
        cursors.push_back(Remembered { number, owner: owner.cloned(), last });
        number
    }

    /// Returns the key of a cursor; `None` if the cursor is unknown, forgotten, or of
    /// another owner's keys.
    fn find(&self, owner: Option<&ComponentId>, number: u64) -> Option<String> {
        let cursors = self.lock();
        let matches = |one: &&Remembered| one.number == number && one.owner.as_ref() == owner;
        cursors.iter().find(matches).map(|one| one.last.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_cursors_are_remembered_for_their_owner() {
        let cursors = Cursors::default();
        let other: ComponentId = "app/notes/work".parse().unwrap();
        let numbers: Vec<u64> =
            (0..=REMEMBERED).map(|n| cursors.remember(None, n.to_string())).collect();
        assert_eq!(cursors.find(None, numbers[0]), None);
        assert_eq!(cursors.find(None, numbers[1]), Some("1".to_owned()));
        // A cursor can be used again.
        assert_eq!(cursors.find(None, numbers[1]), Some("1".to_owned()));
        assert_eq!(cursors.find(Some(&other), numbers[1]), None);
        let number = cursors.remember(Some(&other), "key".to_owned());
        assert_eq!(cursors.find(Some(&other), number), Some("key".to_owned()));
        assert_eq!(cursors.find(None, number), None);
        for guess in [0, 1, u64::MAX, number ^ 1] {
            assert_eq!(cursors.find(Some(&other), guess), None);
        }
    }

    #[test]
    fn cursors_of_the_same_key_differ() {
        let cursors = Cursors::default();
        let numbers: std::collections::HashSet<u64> =
            (0..50).map(|_| cursors.remember(None, "key".to_owned())).collect();
        assert_eq!(numbers.len(), 50);
    }
}
