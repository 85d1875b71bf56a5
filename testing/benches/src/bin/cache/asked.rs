//! What is asked for, in which order.

use benches::keys::{Keys, PREFIX};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// Keys, and a random order of them.
#[derive(Debug)]
pub(crate) struct Asked {
    own: Keys,
    full: Keys,
    order: Box<[u32]>,
    value_bytes: usize,
}

impl Asked {
    /// So many keys, whose values have so many bytes.
    pub(crate) fn new(count: usize, value_bytes: usize) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(count as u64);
        let order = (0..(8 * count).next_power_of_two())
            .map(|_| random.random_range(0..count as u32))
            .collect();
        Self { own: Keys::new("", count), full: Keys::new(PREFIX, count), order, value_bytes }
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.full.len()
    }

    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Every key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key<'_>> {
        (0..self.len()).map(|number| Key { asked: self, number })
    }

    /// The key that an operation asks for.
    #[inline]
    pub(crate) fn key(&self, operation: usize) -> Key<'_> {
        // The length is a power of two: this is no division.
        let at = operation & (self.order.len() - 1);
        Key { asked: self, number: self.order.get(at).map_or(0, |number| *number as usize) }
    }
}

/// A key by both its names.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    asked: &'a Asked,
    number: usize,
}

impl<'a> Key<'a> {
    /// As the component names it.
    #[inline]
    pub(crate) fn own(self) -> &'a str {
        self.asked.own.get(self.number)
    }

    /// With the component's prefix.
    #[inline]
    pub(crate) fn full(self) -> &'a str {
        self.asked.full.get(self.number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn operations_ask_for_the_same_keys_by_both_names() {
        let asked = Asked::new(1_000, 100);
        let mut numbers = HashSet::new();
        for key in (0..20_000).map(|operation| asked.key(operation)) {
            assert_eq!(key.full(), format!("{PREFIX}{}", key.own()));
            numbers.insert(key.number);
        }
        // Each of a thousand, eight times on average.
        assert!(numbers.len() > 990 && asked.len() == 1_000, "{}", numbers.len());
        assert_eq!(asked.order, Asked::new(1_000, 100).order);
    }
}
