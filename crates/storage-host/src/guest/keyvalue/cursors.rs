//! The cursors of the first draft, which are numbers: where each listing goes on.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use storage_core::ComponentId;

/// How many listings of a component can be under way at a time.
const REMEMBERED: usize = 64;

/// The newest cursors of a component, and what each stands for. Nobody can guess
/// one, and one of another component means nothing here.
#[derive(Debug, Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Cursor>>);

#[derive(Debug)]
struct Cursor {
    number: u64,
    /// Whose keys, where they are another's.
    owner: Option<ComponentId>,
    /// The last key of the page before.
    last: String,
}

impl Cursors {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Cursor>> {
        // Every change is one call, so a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cursor behind the key `last`.
    pub(super) fn remember(&self, owner: Option<&ComponentId>, last: String) -> u64 {
        // A keyed hash under keys that are new and random each time.
        let number = RandomState::new().hash_one(&last);
        let mut cursors = self.lock();
        if cursors.len() >= REMEMBERED {
            cursors.pop_front();
        }
        cursors.push_back(Cursor { number, owner: owner.cloned(), last });
        number
    }

    /// The key behind which a listing goes on; `None` if the cursor is unknown,
    /// forgotten, or of another's keys.
    pub(super) fn find(&self, owner: Option<&ComponentId>, number: u64) -> Option<String> {
        let cursors = self.lock();
        let is_it = |cursor: &&Cursor| cursor.number == number && cursor.owner.as_ref() == owner;
        cursors.iter().find(is_it).map(|cursor| cursor.last.clone())
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
