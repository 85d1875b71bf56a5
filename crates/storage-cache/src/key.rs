//! The names of entries, and the ways to ask for one.
//!
//! However it is asked for, a key has the hash of its partition and of the rest,
//! one after the other, so that whoever has the two apart need not join them.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::Equivalent;
use storage_core::split_full_key;

use crate::owner::Owner;

/// The name of an entry, and whose it is.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) text: Box<str>,
    pub(crate) owner: Arc<Owner>,
}

/// A key that is looked for, and is there or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a>(pub(crate) &'a str);

/// The same in two parts. Where the first is no partition, nothing is found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) partition: &'a str,
    pub(crate) own_key: &'a str,
}

impl Hash for Parts<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.partition.as_bytes());
        state.write(self.own_key.as_bytes());
    }
}

impl Equivalent<Key> for Parts<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        let Self { partition, own_key } = self;
        key.text.len() == partition.len() + own_key.len()
            // First what most often differs.
            && key.text.ends_with(own_key)
            && key.text.starts_with(partition)
    }
}

impl Hash for Whole<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (partition, own_key) = split_full_key(self.0);
        Parts { partition, own_key }.hash(state);
    }
}

impl Equivalent<Key> for Whole<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.0 == *key.text
    }
}

/// A key that is looked for, and made if it is not there.
pub(crate) trait Named {
    fn text(&self) -> &str;
    fn owner(&self) -> &Arc<Owner>;
}

/// A key that may have to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) text: &'a str,
    pub(crate) owner: &'a Arc<Owner>,
}

impl Named for Wanted<'_> {
    fn text(&self) -> &str {
        self.text
    }

    fn owner(&self) -> &Arc<Owner> {
        self.owner
    }
}

impl Named for Key {
    fn text(&self) -> &str {
        &self.text
    }

    fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }
}

impl<'a> ToOwned for dyn Named + 'a {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        Key { text: self.text().into(), owner: Arc::clone(self.owner()) }
    }
}

impl<'a> Borrow<dyn Named + 'a> for Key {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Whole(&self.text).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Whole(self.text()).hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for dyn Named + '_ {}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use quick_cache::DefaultHashBuilder;

    use super::*;

    #[test]
    fn a_key_is_the_same_however_it_is_asked_for() {
        let hasher = DefaultHashBuilder::default();
        let owner = Owner::alone();
        for (partition, own_key) in [
            ("a/b/c/", "d"),
            ("a/b/c/", ""),
            ("a/b/c/", "d/e/f/g"),
            ("", "a/b"),
            ("", ""),
            ("///", "/"),
        ] {
            let text = format!("{partition}{own_key}");
            let wanted = Wanted { text: &text, owner: &owner };
            let parts = Parts { partition, own_key };
            let key = (&wanted as &dyn Named).to_owned();
            let hash = hasher.hash_one(&key);
            assert_eq!(hasher.hash_one(parts), hash);
            assert_eq!(hasher.hash_one(Whole(&text)), hash);
            assert_eq!(hasher.hash_one(&wanted as &dyn Named), hash);
            assert!(parts.equivalent(&key) && Whole(&text).equivalent(&key));
            assert!(!Parts { partition, own_key: "x" }.equivalent(&key));
            assert!(!Parts { partition: "a/b/d/", own_key }.equivalent(&key));
            assert!(!Whole("x").equivalent(&key));
        }
    }
}
