//! The names of the server's keys.
//!
//! `P` is the prefix of the options, `xx` the shard in hexadecimal. `{P:xx}` is a hash tag, so
//! a cluster keeps a shard on one node. What follows the tag may have any bytes.
//!
//! | key | type | content |
//! |---|---|---|
//! | `s:{P:xx}` | hash | `format`, `store_id` and `shards` of the store; in the first shard also `complete`, once every shard has it |
//! | `n:{P:xx}` | string | the number of the last commit: microseconds since 1970, or more |
//! | `c:{P:xx}` | sorted set | the prefixes of components that have keys |
//! | `i:{P:xx}PREFIX` | sorted set | the user keys of a component |
//! | `m:{P:xx}PREFIX` | hash | `bytes`, `keys` and `revision` of a component that was ever written |
//! | `v:{P:xx}FULLKEY` | string | the revision of a value in 8 bytes, big-endian, and its record |
//! | `r:{P:xx}` | sorted set | snapshots that are being read, by the time at which they end |
//! | `o:{P:xx}`, `x:{P:xx}` | hash, sorted set | values that such a snapshot may still need |
//! | `t:{P:xx}` | any | what opening tries commands on; missing afterwards |
//!
//! Scores of `c`, `i` and `x` are 0, so the order is that of the bytes. A channel
//! `e:{P:xx}STOREID` carries the notices of a shard.

use super::shard::Shard;

/// The names of the keys of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    prefix: String,
}

/// What every connection must find, or the server is not the one that the store was opened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoreCheck {
    pub(super) keys: Keys,
    pub(super) store_id: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The hash tag of a shard, without braces.
    pub(super) fn tag(&self, shard: Shard) -> String {
        format!("{}:{shard}", self.prefix)
    }

    fn name(&self, kind: &str, shard: Shard, rest: &str) -> String {
        format!("{kind}:{{{}:{shard}}}{rest}", self.prefix)
    }

    pub(super) fn store(&self, shard: Shard) -> String {
        self.name("s", shard, "")
    }

    pub(super) fn last_number(&self, shard: Shard) -> String {
        self.name("n", shard, "")
    }

    pub(super) fn components(&self, shard: Shard) -> String {
        self.name("c", shard, "")
    }

    pub(super) fn index(&self, shard: Shard, component: &str) -> String {
        self.name("i", shard, component)
    }

    pub(super) fn counter(&self, shard: Shard, component: &str) -> String {
        self.name("m", shard, component)
    }

    pub(super) fn value(&self, shard: Shard, full_key: &str) -> String {
        self.name("v", shard, full_key)
    }

    pub(super) fn snapshots(&self, shard: Shard) -> String {
        self.name("r", shard, "")
    }

    pub(super) fn old_values(&self, shard: Shard) -> String {
        self.name("o", shard, "")
    }

    pub(super) fn old_index(&self, shard: Shard) -> String {
        self.name("x", shard, "")
    }

    /// The key that opening tries commands on.
    pub(super) fn tried(&self, shard: Shard) -> String {
        self.name("t", shard, "")
    }

    /// The channel of the notices of a shard. It names the store, because channels are shared
    /// by the databases of a server.
    pub(super) fn channel(&self, shard: Shard, store_id: &str) -> String {
        self.name("e", shard, store_id)
    }

    /// The pattern of all keys of the store, for SCAN.
    pub(super) fn pattern(&self) -> String {
        format!("?:{{{}:*", self.prefix)
    }

    /// The kind of a key, its shard and what follows the tag; `None` for a key of something
    /// else.
    pub(super) fn split<'k>(&self, key: &'k [u8]) -> Option<(u8, u8, &'k [u8])> {
        let (kind, rest) = key.split_first()?;
        let rest = rest.strip_prefix(b":{")?.strip_prefix(self.prefix.as_bytes())?;
        let (digits, rest) = rest.strip_prefix(b":")?.split_at_checked(2)?;
        let shard = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some((*kind, shard, rest.strip_prefix(b"}")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tag_is_the_shard_whatever_the_key_has() {
        let keys = Keys::new("apps");
        let shard = Shard::of("app/notes/home/", 256);
        assert_eq!(keys.value(shard, "a/{b}/c/}"), "v:{apps:25}a/{b}/c/}");
        assert_eq!(keys.store(Shard::FIRST), "s:{apps:00}");
    }

    #[test]
    fn names_split_into_what_they_were_made_of() {
        let keys = Keys::new("apps");
        let shard = Shard::of("app/notes/home/", 256);
        let name = keys.value(shard, "}{k");
        assert_eq!(keys.split(name.as_bytes()), Some((b'v', shard.number(), b"}{k".as_slice())));
        for other in ["", "v", "v:{apps:0", "v:{apps:00", "v:{app:00}", "v:{apps:zz}k", "v{apps"] {
            assert_eq!(keys.split(other.as_bytes()), None, "{other}");
        }
    }
}
