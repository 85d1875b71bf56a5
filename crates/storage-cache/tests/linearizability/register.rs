//! A key as a register, and whether a history of it is one that a register can
//! have.

use std::collections::BTreeMap;

use todc_utils::{Action, History, Specification, WGLChecker};

/// What a call did to a key or was told of it. A value goes by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read(Option<u64>),
    /// Only whether there is a value.
    Exists(bool),
    /// `None` deletes.
    Write(Option<u64>),
    /// A commit whose check held, and that wrote.
    Update {
        checked: Check,
        to: Option<u64>,
    },
    /// A commit whose check held, or not, and that left the key as it was.
    Checked(Check, bool),
}

/// What a commit asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Absent,
    Present,
    Value(u64),
}

impl Check {
    fn holds(self, state: Option<u64>) -> bool {
        match self {
            Self::Absent => state.is_none(),
            Self::Present => state.is_some(),
            Self::Value(number) => state == Some(number),
        }
    }
}

struct Register;

impl Specification for Register {
    type State = Option<u64>;
    type Operation = Operation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Operation, state: &Self::State) -> (bool, Self::State) {
        match *operation {
            Operation::Read(found) => (found == *state, *state),
            Operation::Exists(found) => (found == state.is_some(), *state),
            Operation::Write(to) => (true, to),
            Operation::Update { checked, to } if checked.holds(*state) => (true, to),
            Operation::Update { .. } => (false, *state),
            Operation::Checked(check, held) => (check.holds(*state) == held, *state),
        }
    }
}

/// A call as one key saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) key: usize,
    pub(crate) operation: Operation,
    pub(crate) began: u64,
    /// `None` for a write that failed: it may take effect later or never.
    pub(crate) ended: Option<u64>,
}

/// Whether each key, by itself, may have been a register. A storage of such keys
/// is one too (Herlihy and Wing, 1990: linearizability is local).
///
/// # Errors
/// The history of a key that can not.
pub(crate) fn judge(calls: &[Call]) -> Result<(), String> {
    let mut keys: BTreeMap<usize, Vec<Call>> = BTreeMap::new();
    for call in calls {
        keys.entry(call.key).or_default().push(*call);
    }
    for (key, mut calls) in keys {
        if !WGLChecker::<Register>::is_linearizable(history(&calls)) {
            calls.sort_by_key(|call| call.began);
            let lines: Vec<String> = calls.iter().map(|call| format!("  {call:?}")).collect();
            return Err(format!("key {key} is no register:\n{}", lines.join("\n")));
        }
    }
    Ok(())
}

fn history(calls: &[Call]) -> History<Operation> {
    let mut events = Vec::new();
    // Each call is a process of its own to the checker, because a thread goes on
    // after a write that never ends.
    for (process, call) in calls.iter().enumerate() {
        events.push((call.began, (process, Action::Call(call.operation))));
        let ended = call.ended.unwrap_or(u64::MAX);
        events.push((ended, (process, Action::Response(call.operation))));
    }
    events.sort_by_key(|(moment, _)| *moment);
    History::from_actions(events.into_iter().map(|(_, event)| event).collect())
}
