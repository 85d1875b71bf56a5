//! What a node knows of its cluster.

use std::ops::RangeInclusive;

use anyhow::{Context as _, Result};

/// A node of a cluster, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    /// Whether the node that was asked is this one or can reach it.
    pub(super) is_reachable: bool,
    /// The id of its master, if it is a replica.
    pub(super) master: Option<String>,
    /// The slots that it owns.
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl Member {
    /// Reads the reply to `CLUSTER NODES`.
    pub(super) fn read_all(text: &str) -> Result<Vec<Self>> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| Self::read(line).with_context(|| format!("not a member: {line}")))
            .collect()
    }

    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let id = fields.next()?.to_owned();
        // The address is that of clients with the encryption of the one that asks, or none.
        let flags: Vec<&str> = fields.nth(1)?.split(',').collect();
        let master = Some(fields.next()?).filter(|id| *id != "-").map(str::to_owned);
        let is_connected = fields.nth(3)? == "connected";
        let fails =
            ["fail", "fail?", "handshake", "noaddr"].iter().any(|flag| flags.contains(flag));
        let is_reachable = flags.contains(&"myself") || (is_connected && !fails);
        // A slot that is moved is in brackets, and its owner has it without them too.
        let slots = fields.filter(|field| !field.starts_with('[')).map(|field| {
            let (first, last) = field.split_once('-').unwrap_or((field, field));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        let slots = slots.collect::<Option<_>>()?;
        Some(Self { id, is_reachable, master, slots })
    }

    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read() {
        let text = "\
            a 127.0.0.1:12000@22000 master,fail? - 0 0 3 connected 0-9 12 [12->-b]\n\
            b 127.0.0.1:12001@22001,name myself,slave a 0 0 3 connected\n\
            c :0@0 master,noaddr - 0 0 3 disconnected\n";
        let member = |id: &str, master: Option<&str>, slots| Member {
            id: id.to_owned(),
            is_reachable: id == "b",
            master: master.map(str::to_owned),
            slots,
        };
        let a = member("a", None, vec![0..=9, 12..=12]);
        assert!(a.owns(9) && !a.owns(10) && a.owns(12));
        let others = [member("b", Some("a"), vec![]), member("c", None, vec![])];
        assert_eq!(Member::read_all(text).unwrap(), [&[a], &others[..]].concat());
        assert!(Member::read_all("a 127.0.0.1:12000@22000 master").is_err());
    }
}
