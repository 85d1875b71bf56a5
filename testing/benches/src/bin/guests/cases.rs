//! What is measured, and the required ratios.

use std::fmt;

use crate::guest::{Dialect, Kind, Operation};
use crate::sides::Host;

/// An operation, with values of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) operation: Operation,
    pub(crate) bytes: usize,
}

const SMALL: usize = 100;
const MEDIUM: usize = 4 << 10;
const LARGE: usize = 64 << 10;

pub(crate) const CASES: &[Case] = &[
    Case { operation: Operation::Get, bytes: SMALL },
    Case { operation: Operation::Get, bytes: MEDIUM },
    Case { operation: Operation::Get, bytes: LARGE },
    Case { operation: Operation::Exists, bytes: SMALL },
    Case { operation: Operation::Set, bytes: SMALL },
    Case { operation: Operation::Set, bytes: MEDIUM },
    Case { operation: Operation::Set, bytes: LARGE },
    Case { operation: Operation::Increment, bytes: SMALL },
    Case { operation: Operation::GetMany, bytes: SMALL },
    Case { operation: Operation::GetMany, bytes: MEDIUM },
    Case { operation: Operation::ListKeys, bytes: SMALL },
];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self.bytes {
            SMALL => "100 bytes",
            MEDIUM => "4 KiB",
            _ => "64 KiB",
        };
        match self.operation {
            Operation::Prepare => f.write_str("prepare"),
            Operation::Get => write!(f, "get, {bytes}"),
            Operation::Exists => f.write_str("exists"),
            Operation::Set => write!(f, "set, {bytes}"),
            Operation::Increment => f.write_str("increment"),
            Operation::GetMany => write!(f, "get-many of 10 keys, {bytes} each"),
            Operation::ListKeys => f.write_str("listing of 100 keys"),
        }
    }
}

/// What a side is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// Host functions of the same interface that return a constant.
    Floor,
    /// One map behind one lock.
    SharedMap,
    /// wasmtime-wasi-keyvalue.
    Peer,
    /// redb with a transaction for each call, and the same durability.
    PerCall,
}

/// The largest ratio that is required of a side.
pub(crate) fn target(
    kind: Kind,
    case: &Case,
    host: Host,
    dialect: Dialect,
    against: Against,
) -> Option<f64> {
    let keyvalue = matches!(dialect, Dialect::Draft | Dialect::Draft2);
    let small_or_medium = case.bytes <= MEDIUM;
    match (host, against, case.operation) {
        (Host::Memory, Against::Floor, Operation::Get) if kind == Kind::Rust && small_or_medium => {
            match dialect {
                Dialect::Core => Some(1.15),
                Dialect::Draft | Dialect::Draft2 => Some(1.25),
                Dialect::Extended => None,
            }
        }
        (Host::Memory, Against::Peer, Operation::Get) if dialect != Dialect::Extended => {
            Some(match (kind, case.bytes) {
                (_, SMALL) => 1.0 / 1.2,
                (_, MEDIUM) => 1.0 / 1.3,
                (Kind::Rust, _) => 1.0 / 1.5,
                (Kind::Wat, _) => 1.0 / 5.0,
            })
        }
        (Host::Memory, Against::Peer, Operation::Set) if keyvalue => {
            Some(if case.bytes == SMALL { 1.1 } else { 1.0 })
        }
        (Host::Memory, Against::Peer, Operation::Increment) => Some(1.5),
        (Host::RedbRelaxed, Against::PerCall, Operation::Set) if keyvalue => Some(1.3),
        _ => None,
    }
}
