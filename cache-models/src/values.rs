//! The keys and values of an execution.

use std::sync::LazyLock;

use storage_core::StorageValue;

use crate::random::Random;

/// The key that it is all about.
pub(crate) const KEY: usize = 0;
/// Its companion in batches and commits.
pub(crate) const OTHER: usize = 1;
/// What pushes the two out of a small cache.
pub(crate) const FILLERS: [usize; 3] = [2, 3, 4];

/// Of so many names of the companion some share the key's stripe.
const COMPANIONS: usize = 256;

/// What the keys are called.
#[derive(Debug)]
pub(crate) struct Names {
    prefix: &'static str,
    other: String,
}

impl Names {
    /// Names that stand behind `prefix` in the storage below.
    pub(crate) fn new(prefix: &'static str, random: &mut Random) -> Self {
        Self { prefix, other: format!("other {}", random.below(COMPANIONS)) }
    }

    pub(crate) fn all() -> impl Iterator<Item = usize> {
        [KEY, OTHER].into_iter().chain(FILLERS)
    }

    pub(crate) fn get(&self, key: usize) -> &str {
        match key {
            KEY => "key",
            OTHER => &self.other,
            2 => "filler a",
            3 => "filler b",
            _ => "filler c",
        }
    }

    /// As the storage below knows it.
    pub(crate) fn below(&self, key: usize) -> String {
        format!("{}{}", self.prefix, self.get(key))
    }
}

/// No cache of the models keeps a value of so many bytes.
const LARGE: usize = 20 << 10;

/// An execution writes fewer values than this.
const MOST: usize = 32;

/// Made once: a value costs an execution no copy of its bytes. No two have the
/// same length, which is what `Debug` shows of them.
static SMALL: LazyLock<Vec<StorageValue>> = LazyLock::new(|| longer_and_longer(0));
static TOO_LARGE: LazyLock<Vec<StorageValue>> = LazyLock::new(|| longer_and_longer(LARGE));

fn longer_and_longer(length: usize) -> Vec<StorageValue> {
    (0..MOST).map(|number| vec![0; length + number].into()).collect()
}

/// Values of which no two are the same.
#[derive(Debug, Default)]
pub(crate) struct Values {
    used: usize,
}

impl Values {
    pub(crate) fn small(&mut self) -> StorageValue {
        self.next(&SMALL)
    }

    pub(crate) fn large(&mut self) -> StorageValue {
        self.next(&TOO_LARGE)
    }

    fn next(&mut self, from: &[StorageValue]) -> StorageValue {
        self.used += 1;
        from.get(self.used).cloned().unwrap_or_else(|| vec![0; MOST + self.used].into())
    }
}

pub(crate) fn is_large(value: &StorageValue) -> bool {
    value.len() >= LARGE
}
