//! Slots of a cluster that change their owner.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};

use super::{ADMIN, RedisCluster};

/// How many keys are moved by one command.
const KEYS: usize = 100;

/// How long the new owner may take to accept keys, in milliseconds.
const MIGRATE_LIMIT: &str = "60000";

/// A slot on its way to another node. Until all of its keys are moved, the old owner answers
/// `ASK` for those that it does not have, and `TRYAGAIN` for several keys that are apart.
#[derive(Debug, Clone, Copy)]
pub struct SlotMove {
    slot: u16,
    from: usize,
    to: usize,
}

impl RedisCluster {
    /// Moves slots and their keys to a master while clients may use them.
    ///
    /// # Errors
    /// If a node does not answer, or `to` is not a master.
    pub fn move_slots(&self, slots: RangeInclusive<u16>, to: usize) -> Result<()> {
        for slot in slots {
            if self.owner(slot)? != to {
                let moved = self.begin_move(slot, to)?;
                while self.move_keys(moved, KEYS)? > 0 {}
                self.finish_move(moved)?;
            }
        }
        self.wait_until_healthy()
    }

    /// Begins to move a slot to a master. No key moves yet, but new ones are the new owner's.
    ///
    /// # Errors
    /// If a node does not answer, `to` is not a master, or owns the slot.
    pub fn begin_move(&self, slot: u16, to: usize) -> Result<SlotMove> {
        let from = self.owner(slot)?;
        ensure!(from != to, "node {to} owns slot {slot} already");
        for (node, state, other) in [(to, "importing", from), (from, "migrating", to)] {
            let id = self.id(other)?;
            self.node(node)?.command(&["cluster", "setslot", &slot.to_string(), state, id])?;
        }
        Ok(SlotMove { slot, from, to })
    }

    /// Moves up to `limit` keys of the slot. Returns how many; 0 if there are no others.
    ///
    /// # Errors
    /// If a node does not answer.
    pub fn move_keys(&self, moved: SlotMove, limit: usize) -> Result<usize> {
        let (slot, limit) = (moved.slot.to_string(), limit.to_string());
        let (from, to) = (self.node(moved.from)?, self.node(moved.to)?.address());
        let keys = from.values(&["cluster", "getkeysinslot", &slot, &limit])?;
        if keys.is_empty() {
            return Ok(0);
        }
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let admin = from.options.admin_password();
        let command =
            ["migrate", &host, &port, "", "0", MIGRATE_LIMIT, "auth2", ADMIN, admin, "keys"];
        let names = keys.iter().map(Vec::as_slice);
        let arguments: Vec<&[u8]> =
            command.iter().map(|text| text.as_bytes()).chain(names).collect();
        from.values(&arguments)?;
        Ok(keys.len())
    }

    /// Makes the new node the owner of the slot. All keys must be moved.
    ///
    /// # Errors
    /// If a node does not answer, or the old owner has keys of the slot.
    pub fn finish_move(&self, moved: SlotMove) -> Result<()> {
        let (slot, id) = (moved.slot.to_string(), self.id(moved.to)?);
        // First the new owner, so that there is always one.
        let both = [self.node(moved.to)?, self.node(moved.from)?];
        for node in both {
            node.command(&["cluster", "setslot", &slot, "node", id])?;
        }
        // Others would hear of it later. A replica hears of it from its master.
        for node in
            self.answering().filter(|node| both.iter().all(|one| !std::ptr::eq(*one, *node)))
        {
            if node.info("role")? == "master" {
                node.command(&["cluster", "setslot", &slot, "node", id])?;
            }
        }
        Ok(())
    }
}
