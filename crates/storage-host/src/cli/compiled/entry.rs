//! The keys of the cache and the format of its entries.

use std::fmt::Write;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use storage_host::wasmtime::Engine;

/// The first bytes of an entry, with the version of the format.
const MAGIC: &[u8; 16] = b"storage-host c1\n";

/// The length of a SHA-256.
const DIGEST: usize = 32;

/// The length of the header: the magic, the digests of component and engine, the length
/// of the machine code, and its digest.
const HEADER: usize = MAGIC.len() + 2 * DIGEST + size_of::<u64>() + DIGEST;

/// Identifies the machine code of a component for an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryKey {
    /// The SHA-256 of the component's bytes.
    component: [u8; DIGEST],
    /// The SHA-256 of what else the machine code depends on: wasmtime's version, the target
    /// and the settings.
    engine: [u8; DIGEST],
}

impl EntryKey {
    pub(super) fn new(engine: &Engine, component: &[u8]) -> Self {
        let mut hasher = DigestHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self { component: Sha256::digest(component).into(), engine: hasher.0.finalize().into() }
    }

    /// The name of the entry's file.
    pub(super) fn file_name(&self) -> String {
        let both = Sha256::new().chain_update(self.component).chain_update(self.engine).finalize();
        both.iter().fold(String::with_capacity(2 * DIGEST), |mut name, byte| {
            // Writing to a string cannot fail.
            let _ = write!(name, "{byte:02x}");
            name
        })
    }

    /// The header of an entry with this code.
    fn header(&self, code: &[u8]) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&self.component);
        header.extend_from_slice(&self.engine);
        header.extend_from_slice(&(code.len() as u64).to_le_bytes());
        header.extend_from_slice(&Sha256::digest(code));
        header
    }

    /// The file of an entry with this code: the header, then the code.
    pub(super) fn encode(&self, code: &[u8]) -> Vec<u8> {
        let mut entry = self.header(code);
        entry.extend_from_slice(code);
        entry
    }
}

/// Feeds a `Hash` to SHA-256.
struct DigestHasher(Sha256);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    // Not used: the digest is.
    fn finish(&self) -> u64 {
        0
    }
}

/// Machine code that was written for a key, unchanged.
#[derive(Debug)]
pub(super) struct VerifiedCode {
    entry: Vec<u8>,
}

impl VerifiedCode {
    pub(super) fn bytes(&self) -> &[u8] {
        self.entry.get(HEADER..).unwrap_or_default()
    }
}

/// Returns the code of an entry; `None` if it is not what was written for this key.
pub(super) fn verify(key: &EntryKey, entry: Vec<u8>) -> Option<VerifiedCode> {
    let (header, code) = entry.split_at_checked(HEADER)?;
    (header == key.header(code)).then_some(VerifiedCode { entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(component: u8, engine: u8) -> EntryKey {
        EntryKey { component: [component; DIGEST], engine: [engine; DIGEST] }
    }

    #[test]
    fn an_entry_verifies_for_its_key_only() {
        let entry = key(1, 2).encode(b"code");
        assert_eq!(verify(&key(1, 2), entry.clone()).unwrap().bytes(), b"code");
        for other in [key(2, 2), key(1, 1), key(2, 1)] {
            assert!(verify(&other, entry.clone()).is_none());
            assert_ne!(other.file_name(), key(1, 2).file_name());
        }
    }

    #[test]
    fn changed_entries_do_not_verify() {
        let entry = key(1, 2).encode(b"machine code");
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&key(1, 2), damaged).is_none(), "bit {bit}");
        }
        for len in 0..entry.len() {
            assert!(verify(&key(1, 2), entry[..len].to_vec()).is_none(), "{len} bytes");
        }
        assert!(verify(&key(1, 2), [entry, vec![0]].concat()).is_none());
    }

    #[test]
    fn keys_depend_on_the_settings_of_the_engine() {
        let with_deadlines = |on| {
            let mut config = storage_host::guest::engine_config();
            config.epoch_interruption(on);
            EntryKey::new(&Engine::new(&config).unwrap(), b"component")
        };
        assert_eq!(with_deadlines(true), with_deadlines(true));
        assert_ne!(with_deadlines(true), with_deadlines(false));
    }
}
