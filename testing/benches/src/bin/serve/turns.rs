//! Sides that take turns, and what they have done.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use benches::measure::{Compared, Spread, median};
use benches::report::{self, Row, Target};
use tokio::runtime::Runtime;

use crate::load::{self, Asked, Client};
use crate::server::Server;
use crate::sides::{Kind, Programs, SIDES, Side};

/// The entries of a guestbook before the first turn.
const FIRST_ENTRIES: usize = 100;

/// What is measured.
pub(crate) struct Plan<'a> {
    /// The time of all turns together.
    pub(crate) time: Duration,
    /// The number of turns of each side. One more comes first, which is not counted.
    pub(crate) rounds: u32,
    pub(crate) connections: &'a [usize],
    /// A part of the name of each side that is measured.
    pub(crate) requests: &'a str,
}

/// A server, and what was written to it.
struct Running {
    kind: Kind,
    server: Server,
    /// The ids of the entries that were acknowledged.
    entries: Vec<String>,
}

/// A side with a number of connections.
struct Cell {
    side: Side,
    connections: usize,
    /// Seconds per request, by round.
    wall: Vec<f64>,
    /// Seconds of the server's processor time per request, by round.
    cpu: Vec<f64>,
    latencies: Vec<Duration>,
}

/// Measures all sides, and checks that every acknowledged entry is there.
pub(crate) fn measure(
    programs: &Programs<'_>,
    runtime: &Runtime,
    directory: &Path,
    plan: &Plan<'_>,
) -> Result<String> {
    let mut sides: Vec<Side> =
        SIDES.into_iter().filter(|side| side.name.contains(plan.requests)).collect();
    let mut report = String::new();
    match programs.wasmtime_version() {
        Ok(version) => writeln!(report, "`wasmtime serve`: {version}\n")?,
        Err(error) => {
            let reason = format!(
                "SKIPPED `wasmtime serve`: {error:#}; install it (cargo install wasmtime-cli \
                 --locked) or name it with WASMTIME"
            );
            eprintln!("{reason}");
            writeln!(report, "{reason}\n")?;
            sides.retain(|side| side.kind != Kind::Wasmtime);
        }
    }
    ensure!(!sides.is_empty(), "no requests have a name that contains {:?}", plan.requests);
    let mut running = start(programs, runtime, directory, &sides)?;
    // Those with the same number of connections follow each other.
    let mut cells: Vec<Cell> = plan
        .connections
        .iter()
        .flat_map(|connections| sides.iter().map(|side| Cell::new(*side, *connections)))
        .collect();
    let turns = u32::try_from(cells.len())? * (plan.rounds + 1);
    for round in 0..=plan.rounds {
        for cell in &mut cells {
            let of_side = running.iter_mut().find(|one| one.kind == cell.side.kind);
            let of_side = of_side.context("a server is missing")?;
            cell.turn(runtime, of_side, plan.time / turns, round > 0)?;
        }
    }
    let entries = end(runtime, running)?;
    report.push_str(&table(&cells)?);
    if let Some(compared) = comparison(&cells) {
        write!(report, "\n{compared}")?;
    }
    writeln!(report, "\nNo errors. All {entries} acknowledged entries are there.")?;
    Ok(report)
}

/// Starts the servers of these sides. Each guestbook gets its first entries.
fn start(
    programs: &Programs<'_>,
    runtime: &Runtime,
    directory: &Path,
    sides: &[Side],
) -> Result<Vec<Running>> {
    let mut running: Vec<Running> = Vec::new();
    for Side { kind, .. } in sides {
        if running.iter().any(|one| one.kind == *kind) {
            continue;
        }
        let server = programs.start(*kind, directory)?;
        let mut entries = Vec::new();
        if matches!(kind, Kind::Book | Kind::Relaxed) {
            let fill = async {
                let mut client = Client::connect(server.address).await?;
                for _ in 0..FIRST_ENTRIES {
                    client.ask(Asked::Entry, &mut entries).await?;
                }
                Ok::<_, anyhow::Error>(())
            };
            runtime.block_on(fill)?;
        }
        running.push(Running { kind: *kind, server, entries });
    }
    Ok(running)
}

/// Checks the entries of all guestbooks, and ends the servers. Returns the number of entries.
fn end(runtime: &Runtime, running: Vec<Running>) -> Result<usize> {
    let mut all = 0;
    for Running { kind, server, entries } in running {
        if matches!(kind, Kind::Book | Kind::Relaxed) {
            let found = runtime
                .block_on(async { Client::connect(server.address).await?.all_entries().await });
            let found: HashSet<String> = found?.into_iter().collect();
            let lost = entries.iter().filter(|id| !found.contains(*id)).count();
            ensure!(lost == 0, "{lost} of {} acknowledged entries are lost", entries.len());
            // Each request was answered.
            ensure!(
                found.len() == entries.len(),
                "{} entries were written twice or unasked",
                found.len() - entries.len()
            );
            all += entries.len();
        }
        let status = server.stop()?;
        // `wasmtime serve` does not handle the signal.
        ensure!(
            kind == Kind::Wasmtime || status.code() == Some(143),
            "{kind:?} ended with {status}"
        );
    }
    Ok(all)
}

impl Cell {
    fn new(side: Side, connections: usize) -> Self {
        Self { side, connections, wall: Vec::new(), cpu: Vec::new(), latencies: Vec::new() }
    }

    fn turn(
        &mut self,
        runtime: &Runtime,
        running: &mut Running,
        time: Duration,
        is_counted: bool,
    ) -> Result<()> {
        let Running { server, entries, .. } = running;
        let Side { name, mix, .. } = self.side;
        let before = server.cpu()?;
        let seen = load::run(runtime, server.address, self.connections, mix, time)
            .with_context(|| format!("{name}, {} connections", self.connections))?;
        let cpu = server.cpu()?.saturating_sub(before);
        entries.extend(seen.entries);
        if is_counted {
            let requests = seen.latencies.len() as f64;
            self.wall.push(seen.took.as_secs_f64() / requests);
            self.cpu.push(cpu.as_secs_f64() / requests);
            self.latencies.extend(seen.latencies);
        }
        Ok(())
    }

    /// The latency that this part of the requests does not exceed.
    fn latency(&self, part: f64) -> String {
        let mut sorted = self.latencies.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        let latency = sorted.get((last as f64 * part) as usize).copied().unwrap_or_default();
        report::time(latency.as_secs_f64())
    }
}

fn table(cells: &[Cell]) -> Result<String> {
    let mut table =
        "| connections | requests | per second | p50 | p99 | longest | processor time of \
                     the server per request |\n|---:|---|---:|---:|---:|---:|---:|\n"
            .to_owned();
    for cell in cells {
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            cell.connections,
            cell.side.name,
            report::rate(median(cell.wall.clone())),
            cell.latency(0.5),
            cell.latency(0.99),
            cell.latency(1.0),
            report::time(median(cell.cpu.clone())),
        )?;
    }
    Ok(table)
}

/// Ours compared with `wasmtime serve`, if both were measured.
fn comparison(cells: &[Cell]) -> Option<String> {
    let mut rows = Vec::new();
    for ours in cells.iter().filter(|cell| cell.side.kind == Kind::Ours) {
        let theirs = cells.iter().find(|cell| {
            cell.side.kind == Kind::Wasmtime && cell.connections == ours.connections
        })?;
        let ratios = |ours: &[f64], theirs: &[f64]| {
            Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
        };
        let compared = Compared {
            first: median(ours.wall.clone()),
            second: median(theirs.wall.clone()),
            ratio: ratios(&ours.wall, &theirs.wall),
            cpu_ratio: ratios(&ours.cpu, &theirs.cpu).median,
        };
        let name = format!("no storage calls, connections: {}", ours.connections);
        rows.push(Row::new(&name, compared, Target::RateAtLeast(1.0)));
    }
    (!rows.is_empty())
        .then(|| report::comparisons(["`storage-host serve`", "`wasmtime serve`"], &rows))
}
