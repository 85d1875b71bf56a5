//! What is asked for, in which order.

use benches_compare::keys::{Keys, PREFIX};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};

/// Keys, each there as the component names it and in full, and a random order.
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

    /// Every key: the component's own, and the full one.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own.iter().zip(self.full.iter())
    }

    /// The number of the key that an operation asks for.
    #[inline]
    fn number(&self, operation: usize) -> usize {
        // The length is a power of two: this is no division.
        self.order.get(operation & (self.order.len() - 1)).map_or(0, |number| *number as usize)
    }

    /// The component's own key that an operation asks for.
    #[inline]
    pub(crate) fn own(&self, operation: usize) -> &str {
        self.own.get(self.number(operation))
    }

    /// The same in full.
    #[inline]
    pub(crate) fn full(&self, operation: usize) -> &str {
        self.full.get(self.number(operation))
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
        for operation in 0..20_000 {
            assert_eq!(asked.full(operation), format!("{PREFIX}{}", asked.own(operation)));
            numbers.insert(asked.number(operation));
        }
        // Each of a thousand, eight times on average.
        assert!(numbers.len() > 990 && asked.len() == 1_000, "{}", numbers.len());
        assert_eq!(asked.order, Asked::new(1_000, 100).order);
    }
}
