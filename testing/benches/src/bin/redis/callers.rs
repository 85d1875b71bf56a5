//! Many callers at once.

use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use benches::Size;
use benches::measure::{CpuTime, Plan, compare_by, in_chunks};
use benches::report::{Row, Target, comparisons};
use redis::aio::MultiplexedConnection;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::calls::{Call, Commands, call};
use crate::raw::{Connections, connect_shared};
use crate::servers;

const CALLERS: usize = 64;

/// Measures everything, and returns a table.
pub(crate) fn measure(size: Size) -> Result<String> {
    let server = servers::start_relaxed()?;
    let store = servers::open(&server)?;
    let commands = Arc::new(Commands::record(&server, &store)?);
    let connections = Connections::open(&server, CALLERS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shared = connect_shared(&runtime, &server)?;
    // So many that starting the threads, which takes milliseconds, does not count.
    let operations = CALLERS * size.pick(1_000, 50);
    let plan = Plan { rounds: size.pick(21, 3), operations, turn: operations };
    let mut rows = Vec::new();
    for (name, made) in [("get", Call::Get), ("set", Call::Set)] {
        let mut by_store = |numbers: Range<usize>| {
            in_chunks(CALLERS, numbers, &|mut numbers| {
                numbers.try_for_each(|n| call(&store, made, n))
            })
        };
        let mut by_tasks = |numbers| in_tasks(&runtime, &shared, &commands, made, numbers);
        let sides: [(&str, benches::measure::Side<'_>, Target); 2] = [
            ("64 callers of the store", &mut by_store, Target::RateAtLeast(2.0)),
            ("64 tasks on one connection", &mut by_tasks, Target::Rate),
        ];
        for (what, side, target) in sides {
            let blocking = &mut |numbers: Range<usize>| {
                in_chunks(CALLERS, numbers, &|numbers| connections.run(&commands, made, numbers))
            };
            let compared = compare_by(CpuTime::OfProcess, plan, side, blocking)?;
            rows.push(Row::new(&format!("{name}: {what}"), compared, target));
        }
    }
    Ok(comparisons(["", "64 blocking connections of the crate"], &rows))
}

/// Does operations in tasks that share a connection.
fn in_tasks(
    runtime: &Runtime,
    connection: &MultiplexedConnection,
    commands: &Arc<Commands>,
    made: Call,
    numbers: Range<usize>,
) -> Result<()> {
    let border = |task: usize| numbers.start + numbers.len() * task / CALLERS;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..CALLERS {
            let (mut connection, commands) = (connection.clone(), Arc::clone(commands));
            let numbers = border(task)..border(task + 1);
            tasks.spawn(async move {
                for number in numbers {
                    commands.run_shared(&mut connection, made, number).await?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    })
}
