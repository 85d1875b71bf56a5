//! The keys of entries, and how they are looked up.
//!
//! Nearly all keys of a scope begin with its prefix, which is stored once with the
//! scope. A short rest is stored in the table itself, so that a hit loads no
//! further memory. The hash of a key combines the hash of its prefix with the rest, so a
//! caller need not join the two.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::Equivalent;

use crate::scope::Scope;

/// The key of an entry, and its scope.
#[derive(Debug)]
pub(crate) struct Key {
    text: Text,
    pub(crate) scope: Arc<Scope>,
}

/// The maximum number of bytes stored inline: no more than the other variants take.
const INLINE: usize = 22;

#[derive(Debug)]
enum Text {
    /// The key after the prefix of its scope.
    Inline { len: u8, bytes: [u8; INLINE] },
    /// The same, if it is longer.
    Boxed(Box<[u8]>),
    /// A whole key that does not begin with the prefix.
    Other(Box<str>),
}

/// The text of a key, relative to its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// The key after the prefix of its scope.
    AfterPrefix(&'a [u8]),
    /// A whole key that does not begin with the prefix.
    Other(&'a str),
}

impl<'a> Name<'a> {
    fn new(key: &'a str, scope: &Scope) -> Self {
        match key.strip_prefix(scope.prefix()) {
            Some(rest) => Self::AfterPrefix(rest.as_bytes()),
            None => Self::Other(key),
        }
    }

    fn hash<H: Hasher>(self, scope: &Scope, state: &mut H) {
        match self {
            Self::AfterPrefix(rest) => {
                state.write_u64(scope.prefix_hash());
                state.write(rest);
            }
            Self::Other(key) => state.write(key.as_bytes()),
        }
    }
}

impl Key {
    fn new(name: Name<'_>, scope: &Arc<Scope>) -> Self {
        let text = match name {
            Name::AfterPrefix(rest) => {
                let mut bytes = [0; INLINE];
                match (bytes.get_mut(..rest.len()), u8::try_from(rest.len())) {
                    (Some(start), Ok(len)) => {
                        start.copy_from_slice(rest);
                        Text::Inline { len, bytes }
                    }
                    _ => Text::Boxed(rest.into()),
                }
            }
            Name::Other(key) => Text::Other(key.into()),
        };
        Self { text, scope: Arc::clone(scope) }
    }

    /// The bytes of the whole key.
    pub(crate) fn len(&self) -> usize {
        match self.name() {
            Name::AfterPrefix(rest) => self.scope.prefix().len() + rest.len(),
            Name::Other(key) => key.len(),
        }
    }
}

/// Compares two texts. Most have 8 to 32 bytes: their first and last bytes, which
/// may overlap, are compared without a call.
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

/// Looks up a key that begins with the prefix of its scope, by the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SplitKey<'a> {
    pub(crate) scope: &'a Arc<Scope>,
    pub(crate) rest: &'a str,
}

impl Hash for SplitKey<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.scope.prefix_hash());
        state.write(self.rest.as_bytes());
    }
}

impl Equivalent<Key> for SplitKey<'_> {
    #[inline]
    fn equivalent(&self, key: &Key) -> bool {
        let rest = self.rest.as_bytes();
        let has_same_text = || match &key.text {
            Text::Inline { len, bytes } => {
                usize::from(*len) == rest.len()
                    && bytes.get(..rest.len()).is_some_and(|inline| is_same(inline, rest))
            }
            Text::Boxed(boxed) => **boxed == *rest,
            Text::Other(_) => false,
        };
        Arc::ptr_eq(&key.scope, self.scope) && has_same_text()
    }
}

/// Looks up a whole key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WholeKey<'a> {
    name: Name<'a>,
    scope: &'a Arc<Scope>,
}

impl<'a> WholeKey<'a> {
    pub(crate) fn new(key: &'a str, scope: &'a Arc<Scope>) -> Self {
        Self { name: Name::new(key, scope), scope }
    }
}

impl Hash for WholeKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(self.scope, state);
    }
}

impl Equivalent<Key> for WholeKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        Arc::ptr_eq(&key.scope, self.scope) && key.name() == self.name
    }
}

/// A [`Key`] or a [`WholeKey`]: quick_cache makes an owned key from a borrowed one.
pub(crate) trait AnyKey {
    fn name(&self) -> Name<'_>;
    fn scope(&self) -> &Arc<Scope>;
}

impl AnyKey for WholeKey<'_> {
    fn name(&self) -> Name<'_> {
        self.name
    }

    fn scope(&self) -> &Arc<Scope> {
        self.scope
    }
}

impl AnyKey for Key {
    #[inline]
    fn name(&self) -> Name<'_> {
        match &self.text {
            Text::Inline { len, bytes } => {
                Name::AfterPrefix(bytes.get(..usize::from(*len)).unwrap_or_default())
            }
            Text::Boxed(rest) => Name::AfterPrefix(rest),
            Text::Other(key) => Name::Other(key),
        }
    }

    fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }
}

impl<'a> ToOwned for dyn AnyKey + 'a {
    type Owned = Key;

    fn to_owned(&self) -> Key {
        Key::new(self.name(), self.scope())
    }
}

impl<'a> Borrow<dyn AnyKey + 'a> for Key {
    fn borrow(&self) -> &(dyn AnyKey + 'a) {
        self
    }
}

impl Hash for dyn AnyKey + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(self.scope(), state);
    }
}

impl PartialEq for dyn AnyKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.scope(), other.scope()) && self.name() == other.name()
    }
}

impl Eq for dyn AnyKey + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self as &dyn AnyKey).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self as &dyn AnyKey == other as &dyn AnyKey
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use quick_cache::DefaultHashBuilder;

    use super::*;

    #[test]
    fn every_form_of_a_key_is_equivalent_to_that_key_only() {
        let hasher = DefaultHashBuilder::default();
        let long = "k".repeat(INLINE + 1);
        for prefix in ["", "a/b/c/", "///", "x/y/z/"] {
            let (scope, other_scope) = (Scope::private(prefix), Scope::private(prefix));
            let after = |rest: &str| format!("a/b/c/{rest}");
            for text in [
                after("d"),
                after(""),
                after("d/e/f/g"),
                after(&long[..INLINE]),
                after(&long),
                "a/b".into(),
                String::new(),
                "////".into(),
            ] {
                let whole = WholeKey::new(&text, &scope);
                let key = (&whole as &dyn AnyKey).to_owned();
                let hash = hasher.hash_one(&key);
                assert_eq!(key.len(), text.len());
                assert_eq!(hasher.hash_one(whole), hash);
                assert_eq!(hasher.hash_one(&whole as &dyn AnyKey), hash);
                assert!(whole.equivalent(&key) && (&whole as &dyn AnyKey).equivalent(&key));
                for other in [WholeKey::new("x", &scope), WholeKey::new(&text, &other_scope)] {
                    assert!(!other.equivalent(&key) && !(&other as &dyn AnyKey).equivalent(&key));
                }
                let Some(rest) = text.strip_prefix(prefix) else {
                    assert!(!SplitKey { scope: &scope, rest: &text }.equivalent(&key));
                    continue;
                };
                let split = SplitKey { scope: &scope, rest };
                assert_eq!(hasher.hash_one(split), hash);
                assert!(split.equivalent(&key));
                assert!(!SplitKey { rest: "x", ..split }.equivalent(&key));
                assert!(!SplitKey { scope: &other_scope, ..split }.equivalent(&key));
            }
        }
    }

    #[test]
    fn texts_of_every_length_are_compared_in_full() {
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
    fn an_inline_text_takes_no_more_than_a_boxed_one() {
        assert_eq!(size_of::<Text>(), size_of::<Box<str>>() + size_of::<usize>());
    }
}
