//! Listing in pages as the drafts of `wasi:keyvalue` have it. A cursor tells where
//! a listing goes on: in the first draft a number, in the second a text.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage_core::{ComponentId, ComponentStorage, MAX_KEY_BYTES, PageRequest, StorageError};

/// Where a listing goes on, as a draft words it.
pub(crate) trait Cursor: Sized {
    /// The key behind which the next page begins.
    ///
    /// # Errors
    /// What the guest is told of a cursor that it made up, or kept too long.
    fn resolve(self, cursors: &Cursors, owner: Option<&ComponentId>) -> Result<String, String>;

    /// A cursor behind a key.
    fn behind(last: &str, cursors: &Cursors, owner: Option<&ComponentId>) -> Self;
}

/// A number under which the host remembers the key.
impl Cursor for u64 {
    fn resolve(self, cursors: &Cursors, owner: Option<&ComponentId>) -> Result<String, String> {
        cursors.find(owner, self).ok_or_else(|| "cursor expired".to_owned())
    }

    fn behind(last: &str, cursors: &Cursors, owner: Option<&ComponentId>) -> Self {
        cursors.remember(owner, last.to_owned())
    }
}

/// The key itself. A guest may make one up: it is but a place in the order of the
/// keys that the guest may see.
impl Cursor for String {
    fn resolve(self, _: &Cursors, _: Option<&ComponentId>) -> Result<String, String> {
        if self.len() > MAX_KEY_BYTES {
            return Err(format!(
                "the cursor is none of a listing's: it is longer than any key, which has at most \
                 {MAX_KEY_BYTES} bytes; it has {}",
                self.len()
            ));
        }
        Ok(self)
    }

    fn behind(last: &str, _: &Cursors, _: Option<&ComponentId>) -> Self {
        last.to_owned()
    }
}

/// A page of keys, and the cursor of the next one if more follow.
#[derive(Debug)]
pub(crate) struct Page<C> {
    pub(crate) keys: Vec<String>,
    pub(crate) cursor: Option<C>,
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum CannotList {
    /// The cursor is none, in words for the guest.
    Cursor(String),
    Storage(StorageError),
}

/// Lists at most `limit` keys behind a cursor; `owner` says whose keys they are,
/// where they are another's.
pub(crate) fn list_keys<C: Cursor>(
    storage: &dyn ComponentStorage,
    cursors: &Cursors,
    owner: Option<&ComponentId>,
    cursor: Option<C>,
    limit: usize,
) -> Result<Page<C>, CannotList> {
    let after = cursor.map(|cursor| cursor.resolve(cursors, owner)).transpose();
    let after = after.map_err(CannotList::Cursor)?;
    let request = PageRequest { prefix: "", after: after.as_deref(), limit };
    let page = storage.list_page(request).map_err(CannotList::Storage)?;
    let cursor = match (page.keys.last(), page.more) {
        (Some(last), true) => Some(C::behind(last, cursors, owner)),
        // Without a cursor the guest would take a part for the whole.
        (None, true) => {
            let reason = "the storage below says that more keys follow, and lists none";
            return Err(CannotList::Storage(StorageError::IoError(reason.to_owned())));
        }
        (_, false) => None,
    };
    Ok(Page { keys: page.keys, cursor })
}

/// How many listings of a component can be under way at a time.
const REMEMBERED: usize = 64;

/// The newest cursors of a component, and what each stands for. Nobody can guess
/// one, and one of another component means nothing here.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Place>>);

#[derive(Debug)]
struct Place {
    number: u64,
    /// Whose keys, where they are another's.
    owner: Option<ComponentId>,
    /// The last key of the page before.
    last: String,
}

impl Cursors {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Place>> {
        // Every change is one call, so a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cursor behind the key `last`.
    fn remember(&self, owner: Option<&ComponentId>, last: String) -> u64 {
        // A keyed hash: the keys are random for a thread, and others each time.
        let number = RandomState::new().hash_one(&last);
        let mut cursors = self.lock();
        if cursors.len() >= REMEMBERED {
            cursors.pop_front();
        }
        cursors.push_back(Place { number, owner: owner.cloned(), last });
        number
    }

    /// The key behind which a listing goes on; `None` if the cursor is unknown,
    /// forgotten, or of another's keys.
    fn find(&self, owner: Option<&ComponentId>, number: u64) -> Option<String> {
        let cursors = self.lock();
        let is_it = |place: &&Place| place.number == number && place.owner.as_ref() == owner;
        cursors.iter().find(is_it).map(|place| place.last.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_for_their_keys_alone() {
        let cursors = Cursors::default();
        let other: ComponentId = "app/notes/work".parse().unwrap();
        let numbers: Vec<u64> =
            (0..=REMEMBERED).map(|n| cursors.remember(None, n.to_string())).collect();
        assert_eq!(cursors.find(None, numbers[0]), None);
        assert_eq!(cursors.find(None, numbers[1]), Some("1".to_owned()));
        // Asked for again it is still there.
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
    fn the_same_place_has_another_number_each_time() {
        let cursors = Cursors::default();
        let numbers: std::collections::HashSet<u64> =
            (0..50).map(|_| cursors.remember(None, "key".to_owned())).collect();
        assert_eq!(numbers.len(), 50);
    }
}
