//! The memory of a server with many connections.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::load::{self, Asked, Client};
use crate::server::Server;
use crate::sides::{Kind, Programs};

const CONNECTIONS: usize = 1_000;
/// Those that send requests meanwhile.
const BUSY: usize = 16;
/// Less than the time after which the server closes an idle connection.
const TIME: Duration = Duration::from_secs(5);

/// The resident memory of a server with the responder: before, with 1,000 connections of which
/// each has had an answer, with 16 busy ones beside them, and after.
pub(crate) fn measure(
    programs: &Programs<'_>,
    runtime: &Runtime,
    directory: &Path,
) -> Result<String> {
    let server = programs.start(Kind::Ours, directory)?;
    let mut table = "| | resident memory | most so far |\n|---|---:|---:|\n".to_owned();
    row(&mut table, "at the start", &server)?;
    // Not the memory of the first requests.
    load::run(runtime, server.address, BUSY, |_| Asked::Target, TIME)?;
    row(&mut table, &format!("after a load over {BUSY} connections"), &server)?;
    let idle = runtime.block_on(async {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(server.address).await?;
            client.ask(Asked::Target, &mut Vec::new()).await?;
            idle.push(client);
        }
        Ok::<_, anyhow::Error>(idle)
    })?;
    row(&mut table, &format!("with {CONNECTIONS} idle connections"), &server)?;
    let seen = load::run(runtime, server.address, BUSY, |_| Asked::Target, TIME)?;
    row(&mut table, &format!("and a load over {BUSY} others"), &server)?;
    drop(idle);
    // The clients' ends of the connections close.
    runtime.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
    row(&mut table, "after they have closed", &server)?;
    server.stop()?;
    let requests = seen.latencies.len();
    writeln!(table, "\n{requests} requests were answered beside the idle connections.")?;
    Ok(table)
}

fn row(table: &mut String, what: &str, server: &Server) -> Result<()> {
    let [now, most] = server.memory()?;
    writeln!(table, "| {what} | {now} MiB | {most} MiB |")?;
    Ok(())
}
