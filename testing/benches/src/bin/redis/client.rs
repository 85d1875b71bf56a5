//! The store compared with the crate redis.

use std::ops::Range;

use anyhow::Result;
use benches::Size;
use benches::measure::{CpuTime, Plan, compare_by, in_chunks};
use benches::report::{Row, Target, comparisons};

use crate::calls::{Call, Commands, call};
use crate::raw::Connections;
use crate::servers;

const MOST_CALLERS: usize = 64;

/// Measures everything, and returns a table.
pub(crate) fn measure(size: Size) -> Result<String> {
    let server = servers::start_relaxed()?;
    let store = servers::open(&server)?;
    let commands = Commands::record(&server, &store)?;
    let connections = Connections::open(&server, MOST_CALLERS)?;
    let mut rows = Vec::new();
    for (what, made, callers, target) in [
        ("get", Call::Get, 1, Target::TimeAtMost(1.15)),
        ("set", Call::Set, 1, Target::TimeAtMost(1.15)),
        ("set, and a plain SET", Call::SetAlone, 1, Target::Time),
        ("get, 16 callers", Call::Get, 16, Target::TimeAtMost(1.15)),
        ("set, 16 callers", Call::Set, 16, Target::TimeAtMost(1.15)),
        ("get, 64 callers", Call::Get, MOST_CALLERS, Target::Time),
        ("set, 64 callers", Call::Set, MOST_CALLERS, Target::Time),
    ] {
        let ours = &mut |numbers: Range<usize>| {
            in_chunks(callers, numbers, &|mut numbers| {
                numbers.try_for_each(|n| call(&store, made, n))
            })
        };
        let theirs = &mut |numbers: Range<usize>| {
            in_chunks(callers, numbers, &|numbers| connections.run(&commands, made, numbers))
        };
        // Starting the threads takes less than one in a hundred of this.
        let turn = callers * 200;
        let operations = turn.max(size.pick(3_200, turn));
        let plan = Plan { rounds: size.pick(21, 3), operations, turn };
        rows.push(Row::new(what, compare_by(CpuTime::OfProcess, plan, ours, theirs)?, target));
    }
    Ok(comparisons(["store", "crate redis"], &rows))
}
