//! The names of entries, and the ways to ask for one.
//!
//! Nearly all keys of an owner begin with his home, which therefore stands once
//! with him, and what follows stands in the table itself where it is short: a hit
//! need not fetch it from elsewhere.
//!
//! In a hash a number stands for the home, and a key can be asked for by what follows
//! alone, so that whoever has the two apart need not join them.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::owner::Owner;
use quick_cache::Equivalent;

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
        match text.strip_prefix(owner.home()) {
            Some(rest) => Self::AtHome(rest.as_bytes()),
            None => Self::Abroad(text),
        }
    }

    fn hash<H: Hasher>(self, owner: &Owner, state: &mut H) {
        match self {
            Self::AtHome(rest) => {
                state.write_u64(owner.home_hash());
                state.write(rest);
            }
            Self::Abroad(text) => state.write(text.as_bytes()),
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

/// Whether two texts are the same. Those of 8 to 32 bytes, as most are, are compared
/// without a call: their first bytes and their last, which may overlap.
#[inline]
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        8..=16 => {
            one.first_chunk::<8>() == other.first_chunk()
                && one.last_chunk::<8>() == other.last_chunk()
        }
        17..=32 => {
            one.first_chunk::<16>() == other.first_chunk()
                && one.last_chunk::<16>() == other.last_chunk()
        }
        _ => one == other,
    }
}

/// A key that is looked for, if it begins with its owner's home: what follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtHome<'a> {
    pub(crate) owner: &'a Arc<Owner>,
    pub(crate) rest: &'a str,
}

impl Hash for AtHome<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.owner.home_hash());
        state.write(self.rest.as_bytes());
    }
}

impl Equivalent<Key> for AtHome<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        let rest = self.rest.as_bytes();
        let is_named_so = || match &key.text {
            Text::Short { len, bytes } => {
                usize::from(*len) == rest.len()
                    && bytes.get(..rest.len()).is_some_and(|short| is_same(short, rest))
            }
            Text::Long(long) => **long == *rest,
            Text::Abroad(_) => false,
        };
        Arc::ptr_eq(&key.owner, self.owner) && is_named_so()
    }
}

/// A key that is looked for, and made if it is not there.
pub(crate) trait Named {
    fn name(&self) -> Name<'_>;
    fn owner(&self) -> &Arc<Owner>;
}

/// A key that is looked for, and made where it has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    name: Name<'a>,
    owner: &'a Arc<Owner>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(text: &'a str, owner: &'a Arc<Owner>) -> Self {
        Self { name: Name::new(text, owner), owner }
    }
}

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(self.owner, state);
    }
}

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        Arc::ptr_eq(&key.owner, self.owner) && key.name() == self.name
    }
}

impl Named for Wanted<'_> {
    fn name(&self) -> Name<'_> {
        self.name
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

/// Nobody looks for a key as another owner than the one who keeps it: all who have one
/// home are one.
impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.owner(), other.owner()) && self.name() == other.name()
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
                let wanted = Wanted::new(&text, &owner);
                let key = (&wanted as &dyn Named).to_owned();
                let hash = hasher.hash_one(&key);
                assert_eq!(key.len(), text.len());
                assert_eq!(hasher.hash_one(wanted), hash);
                assert_eq!(hasher.hash_one(&wanted as &dyn Named), hash);
                assert!(wanted.equivalent(&key));
                assert!((&wanted as &dyn Named).equivalent(&key));
                for another in [Wanted::new("x", &owner), Wanted::new(&text, &other_owner)] {
                    assert!(!another.equivalent(&key));
                    assert!(!(&another as &dyn Named).equivalent(&key));
                }
                let Some(rest) = text.strip_prefix(home) else {
                    assert!(!AtHome { owner: &owner, rest: &text }.equivalent(&key));
                    continue;
                };
                let at_home = AtHome { owner: &owner, rest };
                assert!(at_home.equivalent(&key));
                assert_eq!(hasher.hash_one(at_home), hash);
                assert!(!AtHome { rest: "x", ..at_home }.equivalent(&key));
                assert!(!AtHome { owner: &other_owner, ..at_home }.equivalent(&key));
            }
        }
    }

    #[test]
    fn texts_of_every_length_are_compared_whole() {
        for len in 0..70 {
            let text: Vec<u8> = (0..len).collect();
            assert!(is_same(&text, &text.clone()));
            assert!(!is_same(&text, &[&text[..], &[0]].concat()));
            for at in 0..usize::from(len) {
                let mut other = text.clone();
                other[at] ^= 1;
                assert!(!is_same(&text, &other), "{len}, {at}");
            }
        }
    }

    #[test]
    fn a_short_name_takes_no_more_of_the_table_than_a_boxed_one() {
        assert_eq!(size_of::<Text>(), size_of::<Box<str>>() + size_of::<usize>());
    }
}
