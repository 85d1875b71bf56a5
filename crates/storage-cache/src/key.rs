//! The names of entries, and the ways to ask for one.
//!
//! Nearly all keys of an owner begin with his home, which therefore stands once
//! with him, and what follows stands in the table itself where it is short: a hit
//! need not fetch it from elsewhere.
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
    text: Text,
    pub(crate) owner: Arc<Owner>,
}

/// The most bytes that stand in the table. What a boxed text takes there leaves
/// room for as many.
const SHORT: usize = 22;

#[derive(Debug)]
enum Text {
    /// What follows the owner's home.
    Short { len: u8, bytes: [u8; SHORT] },
    /// The same where it is longer.
    Long(Box<[u8]>),
    /// All of a key that does not begin with it.
    Abroad(Box<str>),
}

/// A text of a key, as an owner knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// What follows his home.
    AtHome(&'a [u8]),
    /// All of it, where it does not begin with his home.
    Abroad(&'a str),
}

impl<'a> Name<'a> {
    fn new(text: &'a str, owner: &Owner) -> Self {
        match split_full_key(text) {
            (partition, rest) if partition == owner.home() => Self::AtHome(rest.as_bytes()),
            _ => Self::Abroad(text),
        }
    }

    fn hash<H: Hasher>(self, owner: &Owner, state: &mut H) {
        match self {
            Self::AtHome(rest) => {
                state.write(owner.home().as_bytes());
                state.write(rest);
            }
            Self::Abroad(text) => Whole(text).hash(state),
        }
    }
}

impl Key {
    fn new(name: Name<'_>, owner: &Arc<Owner>) -> Self {
        let text = match name {
            Name::AtHome(rest) => {
                let mut bytes = [0; SHORT];
                match (bytes.get_mut(..rest.len()), u8::try_from(rest.len())) {
                    (Some(start), Ok(len)) => {
                        start.copy_from_slice(rest);
                        Text::Short { len, bytes }
                    }
                    _ => Text::Long(rest.into()),
                }
            }
            Name::Abroad(text) => Text::Abroad(text.into()),
        };
        Self { text, owner: Arc::clone(owner) }
    }

    /// The number of bytes of the whole key.
    pub(crate) fn len(&self) -> usize {
        match self.name() {
            Name::AtHome(rest) => self.owner.home().len() + rest.len(),
            Name::Abroad(text) => text.len(),
        }
    }
}

/// A key that is looked for, and is there or not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole<'a>(pub(crate) &'a str);

/// The same, where it begins with its owner's home: what follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtHome<'a> {
    pub(crate) owner: &'a Arc<Owner>,
    pub(crate) rest: &'a str,
}

impl Hash for AtHome<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.owner.home().as_bytes());
        state.write(self.rest.as_bytes());
    }
}

impl Equivalent<Key> for AtHome<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        // Those who have one home are one owner, so his need not be read.
        Arc::ptr_eq(&key.owner, self.owner)
            && matches!(key.name(), Name::AtHome(rest) if rest == self.rest.as_bytes())
    }
}

impl Hash for Whole<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (partition, rest) = split_full_key(self.0);
        state.write(partition.as_bytes());
        state.write(rest.as_bytes());
    }
}

impl Equivalent<Key> for Whole<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        match key.name() {
            Name::AtHome(rest) => {
                let after_home = self.0.strip_prefix(key.owner.home());
                after_home.is_some_and(|after_home| after_home.as_bytes() == rest)
            }
            Name::Abroad(text) => self.0 == text,
        }
    }
}

/// A key that is looked for, and made if it is not there.
pub(crate) trait Named {
    fn name(&self) -> Name<'_>;
    fn owner(&self) -> &Arc<Owner>;
}

/// A key that may have to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) text: &'a str,
    pub(crate) owner: &'a Arc<Owner>,
}

impl Named for Wanted<'_> {
    fn name(&self) -> Name<'_> {
        Name::new(self.text, self.owner)
    }

    fn owner(&self) -> &Arc<Owner> {
        self.owner
    }
}

impl Named for Key {
    #[inline]
    fn name(&self) -> Name<'_> {
        match &self.text {
            Text::Short { len, bytes } => {
                Name::AtHome(bytes.get(..usize::from(*len)).unwrap_or_default())
            }
            Text::Long(rest) => Name::AtHome(rest),
            Text::Abroad(text) => Name::Abroad(text),
        }
    }

    fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }
}

impl<'a> ToOwned for dyn Named + 'a {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        Key::new(self.name(), self.owner())
    }
}

impl<'a> Borrow<dyn Named + 'a> for Key {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(self.owner(), state);
    }
}

/// All who look in one place for a key know it by one name: a cache has one
/// owner, and of those who share one each has the keys of one home.
impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.owner().home() == other.owner().home() && self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self as &dyn Named).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self as &dyn Named == other as &dyn Named
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use quick_cache::DefaultHashBuilder;

    use super::*;

    #[test]
    fn a_key_is_the_same_however_it_is_asked_for() {
        let hasher = DefaultHashBuilder::default();
        let long = "k".repeat(SHORT + 1);
        for home in ["", "a/b/c/", "///", "x/y/z/"] {
            let owner = Owner::alone(home);
            let other_owner = Owner::alone(home);
            for (partition, own_key) in [
                ("a/b/c/", "d"),
                ("a/b/c/", ""),
                ("a/b/c/", "d/e/f/g"),
                ("a/b/c/", &long[..SHORT]),
                ("a/b/c/", &long),
                ("", "a/b"),
                ("", ""),
                ("///", "/"),
            ] {
                let text = format!("{partition}{own_key}");
                let wanted = Wanted { text: &text, owner: &owner };
                let key = (&wanted as &dyn Named).to_owned();
                let hash = hasher.hash_one(&key);
                assert_eq!(key.len(), text.len());
                assert_eq!(hasher.hash_one(Whole(&text)), hash);
                assert_eq!(hasher.hash_one(&wanted as &dyn Named), hash);
                assert!(Whole(&text).equivalent(&key));
                assert!((&wanted as &dyn Named).equivalent(&key));
                assert!(!Whole("x").equivalent(&key));
                assert!(!Whole(own_key).equivalent(&key) || partition.is_empty());
                let at_home = AtHome { owner: &owner, rest: own_key };
                assert_eq!(at_home.equivalent(&key), partition == home);
                if partition == home {
                    assert_eq!(hasher.hash_one(at_home), hash);
                }
                assert!(!AtHome { rest: "x", ..at_home }.equivalent(&key));
                assert!(!AtHome { owner: &other_owner, ..at_home }.equivalent(&key));
            }
        }
    }

    #[test]
    fn a_short_name_takes_no_more_of_the_table_than_a_boxed_one() {
        assert_eq!(size_of::<Text>(), size_of::<Box<str>>() + size_of::<usize>());
    }
}
