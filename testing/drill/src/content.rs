//! What the store holds. Every value follows from its component and key.

use anyhow::{Result, ensure};
use storage_core::{Commit, ComponentStorage, StorageValue};
use storage_host::{Mode, StoreUrl};

/// Keys of a commit.
const BATCH: u64 = 1_000;

/// The components of the drill and their keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) keys: u64,
    pub(crate) components: u64,
}

impl Content {
    pub(crate) fn new(keys: u64, components: u64) -> Result<Self> {
        ensure!(components > 0 && keys >= components, "there must be a key for each component");
        Ok(Self { keys, components })
    }

    /// The id of a component. They are in ascending order.
    pub(crate) fn id(component: u64) -> String {
        format!("drill/c{component:06}/main")
    }

    /// The user key with this number. They are in ascending order.
    pub(crate) fn key(number: u64) -> String {
        match number % 4 {
            0 => format!("{number:06}/gr\u{fc}n \"quoted\" \\ \u{1f600}"),
            _ => format!("{number:06}/item"),
        }
    }

    /// The value of a key: up to 200 bytes, of which some are not text.
    pub(crate) fn value(component: u64, number: u64) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(component << 32 | number);
        let length = random.usize(0..200);
        match random.u8(0..3) {
            0 => (0..length).map(|_| random.u8(..)).collect(),
            1 => (0..length).map(|_| random.alphanumeric()).collect::<String>().into_bytes(),
            _ => {
                "line\n\u{e4}\t\"".chars().cycle().take(length / 2).collect::<String>().into_bytes()
            }
        }
    }

    /// The number of keys of a component.
    pub(crate) fn keys_of(&self, component: u64) -> u64 {
        let rest = u64::from(component < self.keys % self.components);
        self.keys / self.components + rest
    }

    /// Writes everything to a new store.
    pub(crate) fn fill(&self, url: &str) -> Result<()> {
        let url: StoreUrl = url.parse()?;
        let store = url.open(Mode::ReadWrite)?;
        for component in 0..self.components {
            let (id, keys) = (Self::id(component), self.keys_of(component));
            for first in (0..keys).step_by(BATCH as usize) {
                let numbers = first..keys.min(first + BATCH);
                let commit = numbers.fold(Commit::new(), |commit, number| {
                    let value = StorageValue::from(Self::value(component, number).as_slice());
                    commit.set(format!("{id}/{}", Self::key(number)), value)
                });
                store.commit(commit)?;
            }
        }
        store.flush()?;
        Ok(())
    }
}
