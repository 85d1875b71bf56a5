//! Shards: how components are spread over the nodes of a cluster.
//!
//! All keys of a shard have the same hash tag, so a node has a whole shard and changes it
//! atomically. A store on one server has one shard, a store on a cluster 256. The number is a
//! part of the format, because it decides where a component is.

use std::fmt;

/// The number of shards of a store on a cluster.
pub(super) const CLUSTER_SHARDS: u16 = 256;

/// The number of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Shard(u8);

impl Shard {
    /// The only shard of a store on one server, and the first one of a store on a cluster.
    pub(super) const FIRST: Self = Self(0);

    /// The shard of a component: the lower bits of the CRC of its prefix. Unscoped keys have the
    /// prefix `""`. `shards` is a power of two.
    pub(super) fn of(component_prefix: &str, shards: u16) -> Self {
        let [_, low] = (crc16(component_prefix.as_bytes()) & (shards - 1)).to_be_bytes();
        Self(low)
    }

    /// All shards of a store with this many.
    pub(super) fn all(shards: u16) -> impl Iterator<Item = Self> {
        (0..=u8::MAX).take(usize::from(shards)).map(Self)
    }

    pub(super) fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Shard {
    /// Writes the two hexadecimal digits that keys have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// CRC-16/XMODEM, which a cluster also uses to find the slot of a hash tag.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_a_cluster() {
        // The check value in the specification of the cluster.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(crc16(b""), 0);
    }

    /// A change would lose the components of every store on a cluster.
    #[test]
    fn components_stay_in_their_shards() {
        let shards =
            ["", "app/notes/home/", "app/notes/work/"].map(|prefix| Shard::of(prefix, 256).0);
        assert_eq!(shards, [0x00, 0x25, 0xdb]);
        assert_eq!(Shard::of("app/notes/home/", 1), Shard::FIRST);
        assert_eq!(Shard::all(1).collect::<Vec<_>>(), [Shard::FIRST]);
        assert_eq!(Shard::all(256).last().map(Shard::number), Some(255));
    }
}
