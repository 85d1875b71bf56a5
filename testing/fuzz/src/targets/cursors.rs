//! Listings with the cursors of both drafts of `wasi:keyvalue`, while keys are set and deleted,
//! compared with an ordered set.

use std::collections::BTreeSet;
use std::sync::Arc;

use storage_backends::MemoryStorage;
use storage_core::{ComponentId, ComponentStorage};
use storage_host::internals::Listings;
use storage_host::{Access, ComponentChain, Grant, GrantedStorage, StorageHost};

use crate::input::Choices;

/// The number of cursors of the first draft that a component may keep.
const MAX_CURSORS: usize = 64;

const GRANTED: [&str; 2] = ["a", "k/"];

pub(crate) fn run(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut world = World::new();
    while !choices.is_empty() {
        world.step(&mut choices);
    }
}

struct World {
    own: Arc<ComponentChain>,
    others: Arc<ComponentChain>,
    granted: GrantedStorage,
    listings: Listings,
    keys: [BTreeSet<String>; 2],
    /// The cursors of the first draft, oldest first: of granted keys, and the last key.
    numbers: Vec<(u64, bool, String)>,
    /// The cursors of the second draft.
    texts: Vec<String>,
}

impl World {
    fn new() -> Self {
        let host = StorageHost::new(Arc::new(MemoryStorage::new()));
        let [own, other] = ["app/notes/001", "app/notes/0011"].map(|id| id.parse().unwrap());
        for prefix in GRANTED {
            let grant = Grant {
                owner: ComponentId::clone(&other),
                prefix: prefix.to_owned(),
                access: Access::Read,
            };
            host.grant(&own, grant);
        }
        Self {
            own: host.component(&own),
            granted: host.granted(&own, &other).unwrap(),
            others: host.component(&other),
            listings: Listings::default(),
            keys: [BTreeSet::new(), BTreeSet::new()],
            numbers: Vec::new(),
            texts: Vec::new(),
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        // The component's keys, or those that it was granted.
        let foreign = choices.once_in(3);
        match choices.below(8) {
            0..3 => {
                let key = key(choices);
                self.chain(foreign).set(&key, "".into()).unwrap();
                self.keys[usize::from(foreign)].insert(key);
            }
            3 => {
                let key = key(choices);
                self.chain(foreign).delete(&key).unwrap();
                self.keys[usize::from(foreign)].remove(&key);
            }
            4 => {
                let at = choices.below(self.numbers.len() + 2);
                self.by_number(foreign, at, choices);
            }
            5 => {
                let at = choices.below(self.texts.len() + 2);
                let cursor = self.texts.get(at).cloned();
                self.by_text(foreign, cursor, choices.below(5));
            }
            6 => {
                let invented = choices.text(1_100).to_owned();
                self.by_text(foreign, Some(invented), choices.below(5));
            }
            _ => {
                let invented = choices.number();
                if self.numbers.iter().all(|(number, ..)| *number != invented) {
                    let page = self.page(foreign, Some(invented), 3);
                    assert_eq!(page.unwrap_err(), "cursor expired");
                }
            }
        }
    }

    fn chain(&self, foreign: bool) -> &ComponentChain {
        if foreign { &self.others } else { &self.own }
    }

    fn storage(&self, foreign: bool) -> (&dyn ComponentStorage, Option<&ComponentId>) {
        if foreign { (&self.granted, Some(self.granted.owner())) } else { (&*self.own, None) }
    }

    fn page(
        &self,
        foreign: bool,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<String>, Option<u64>), String> {
        let (storage, owner) = self.storage(foreign);
        self.listings.page_by_number(storage, owner, cursor, limit)
    }

    /// Continues at a cursor, or starts if there is none.
    fn by_number(&mut self, foreign: bool, at: usize, choices: &mut Choices<'_>) {
        let cursor = self.numbers.get(at).cloned();
        let limit = choices.below(5);
        let page = self.page(foreign, cursor.as_ref().map(|(number, ..)| *number), limit);
        let after = match cursor {
            Some((_, of, _)) if of != foreign || at + MAX_CURSORS < self.numbers.len() => {
                assert_eq!(page.unwrap_err(), "cursor expired");
                return;
            }
            Some((.., after)) => Some(after),
            None => None,
        };
        let next = self.check(foreign, after.as_deref(), limit, page);
        if let Some((number, last)) = next {
            assert!(self.numbers.iter().all(|(known, ..)| *known != number));
            self.numbers.push((number, foreign, last));
        }
    }

    fn by_text(&mut self, foreign: bool, cursor: Option<String>, limit: usize) {
        let (storage, owner) = self.storage(foreign);
        let page = self.listings.page_by_text(storage, owner, cursor.clone(), limit);
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > 1_024) {
            assert!(page.unwrap_err().contains("longer than any key"));
            return;
        }
        let next = self.check(foreign, cursor.as_deref(), limit, page);
        if let Some((cursor, last)) = next {
            assert_eq!(cursor, last);
            self.texts.push(cursor);
        }
    }

    /// A page must have the first keys after the cursor, and a cursor if more follow. Returns
    /// the cursor and the last key.
    fn check<C>(
        &self,
        foreign: bool,
        after: Option<&str>,
        limit: usize,
        page: Result<(Vec<String>, Option<C>), String>,
    ) -> Option<(C, String)> {
        let visible =
            |key: &&String| !foreign || GRANTED.iter().any(|prefix| key.starts_with(prefix));
        let behind = |key: &&String| after.is_none_or(|after| key.as_str() > after);
        let keys = self.keys[usize::from(foreign)].iter().filter(visible).filter(behind);
        let wanted: Vec<&String> = keys.collect();
        let (keys, cursor) = match page {
            Ok(page) => page,
            // A page without keys cannot have a cursor.
            Err(error) => {
                assert!(limit == 0 && !wanted.is_empty(), "{error}");
                return None;
            }
        };
        let found: Vec<&String> = keys.iter().collect();
        assert_eq!(found, wanted[..limit.min(wanted.len())], "after {after:?}, at most {limit}");
        assert_eq!(cursor.is_some(), keys.len() < wanted.len());
        Some((cursor?, keys.last()?.clone()))
    }
}

fn key(choices: &mut Choices<'_>) -> String {
    let known = ["a", "aa", "a/1", "b", "k/", "k/1", "k/2", "k0", "K/1", "\u{e9}", "~", "a/2"];
    if choices.once_in(4) {
        let own: String = choices.text(8).chars().filter(|c| !c.is_control()).collect();
        if !own.is_empty() {
            return own;
        }
    }
    choices.pick(&known).to_owned()
}
