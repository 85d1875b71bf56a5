//! `top`: what the components of a running host do.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::time::Duration;

use serde::Serialize;
use storage_host::admin::{ActiveComponent, Activity, ClientError};

use super::args;
use super::beside::require_host;
use super::escape::visible;
use super::failure::Failure;
use super::keyboard::Keyboard;
use super::output::Output;
use super::progress::human_bytes;
use super::target::Target;

/// Show what the components of a running host do
///
/// A table of the busiest components: calls of storage and bytes per second, how many
/// reads were answered from memory, refused calls, the mean time of the other calls, and
/// how much of the quota is used. The last row, other, is the sum of the rest. On a
/// terminal it is redrawn until q or Ctrl-C is pressed; otherwise it is written once, after
/// the interval. A - is not known.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many seconds a row is about
    #[arg(long, value_name = "SECONDS", default_value_t = 2, allow_negative_numbers = true, value_parser = args::number::<u32>(1..=3_600))]
    interval: u32,
}

/// Shows a table: on a terminal until a key or a signal ends it, otherwise once.
pub(super) fn top(target: &Target, args: &Args, output: &mut Output) -> Result<(), Failure> {
    let interval = Duration::from_secs(args.interval.into());
    let mut before = ask(target)?;
    let is_live = io::stdout().is_terminal() && !output.json();
    let keyboard = if is_live { Keyboard::open() } else { Keyboard::none() };
    if is_live {
        redraw(&Sample::new(target, &before, None), output)?;
    }
    loop {
        if keyboard.is_quit_within(interval) {
            return Ok(());
        }
        let now = ask(target)?;
        let sample = Sample::new(target, &now, Some(&before));
        if output.json() {
            return output.document(&sample);
        }
        if !is_live {
            return output.bytes(sample.table(usize::MAX).as_bytes());
        }
        redraw(&sample, output)?;
        before = now;
    }
}

/// Connects each time: a host may end, and another may start.
fn ask(target: &Target) -> Result<Activity, Failure> {
    let url = target.url();
    let no_host = || {
        format!(
            "no running host has the store \"{url}\" open, and top shows what a host does: start \
             run or serve, or name the host's store with --store"
        )
    };
    match require_host(url, no_host)?.top() {
        Err(ClientError::HostEnded) => Err(Failure::new("no_host", no_host())),
        activity => Ok(activity?),
    }
}

/// Draws over the previous table.
fn redraw(sample: &Sample, output: &mut Output) -> Result<(), Failure> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let (rows, columns) = size.map_or((24, 0), |size| (size.ws_row, size.ws_col));
    // The title, the head and the line of the cursor.
    let room = usize::from(rows).saturating_sub(3).max(1);
    output.bytes(b"\x1b[H\x1b[J")?;
    // A line that wraps would take two rows. 0 columns are not known.
    let columns = if columns == 0 { usize::MAX } else { columns.into() };
    for line in sample.table(room).lines() {
        output.line(line.chars().take(columns).collect::<String>())?;
    }
    output.finish()
}

/// What the components did between two readings.
#[derive(Serialize)]
struct Sample {
    store: String,
    /// `None` after the first reading: then there are no rates.
    interval_seconds: Option<f64>,
    components_in_use: u64,
    components: Vec<Row>,
    other: Row,
}

/// A component, or the sum of all that have no row. What is not known is `None`.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    operations_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
    /// The part of the reads that was answered from memory, from 0 to 1.
    hit_rate: Option<f64>,
    refusals_per_second: Option<f64>,
    /// Of the calls that were not answered from memory.
    mean_latency_us: Option<f64>,
    used_bytes: Option<u64>,
    quota_bytes: Option<u64>,
    key_count: Option<u64>,
    quota_keys: Option<u64>,
    #[serde(skip)]
    has_calls: bool,
}

impl Sample {
    fn new(target: &Target, now: &Activity, before: Option<&Activity>) -> Self {
        let passed = before.map(|before| now.time_ms.saturating_sub(before.time_ms).max(1));
        let earlier = |id: &str| {
            before.and_then(|before| before.components.iter().find(|known| known.id == id))
        };
        let seconds = passed.map(|ms| to_float(ms) / 1_000.0);
        let row =
            |component: &ActiveComponent| Row::new(component, earlier(&component.id), seconds);
        let mut components: Vec<Row> = now.components.iter().map(row).collect();
        // Among equals the order of the host, by all operations, stays.
        let rate = |row: &Row| row.operations_per_second.unwrap_or(0.0);
        components.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        let other = Row::new(&now.other, before.map(|before| &before.other), seconds);
        Self {
            store: target.url().to_string(),
            interval_seconds: seconds,
            components_in_use: now.components_in_use,
            components,
            other,
        }
    }

    /// The table, with at most this many rows.
    fn table(&self, rows: usize) -> String {
        let mut text = format!(
            "{}: {} in use\n",
            visible(&self.store),
            super::progress::counted(self.components_in_use, "component")
        );
        // Only a host of many components has others.
        let other = Some(&self.other).filter(|other| other.has_calls);
        let rows = rows.saturating_sub(usize::from(other.is_some()));
        let shown = self.components.iter().take(rows).chain(other);
        let width = shown.clone().map(|row| row.id.len()).max().unwrap_or(0).max(9);
        let mut line = |cells: [&str; 8]| {
            let [id, operations, bytes, hits, refusals, latency, used, quota] = cells;
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{id:width$} {operations:>9} {bytes:>12} {hits:>6} {refusals:>9} {latency:>9} \
                 {used:>11} {quota:>6}"
            );
        };
        #[rustfmt::skip]
        line(["COMPONENT", "OPS/S", "BYTES/S", "HITS", "REFUSED/S", "LATENCY", "USED", "QUOTA"]);
        for row in shown {
            line([
                &row.id,
                &number(row.operations_per_second),
                &row.bytes_per_second.map_or_else(unknown, |bytes| human_bytes(to_whole(bytes))),
                &percent(row.hit_rate),
                &number(row.refusals_per_second),
                &row.mean_latency_us.map_or_else(unknown, |us| format!("{us:.0} us")),
                &row.used_bytes.map_or_else(unknown, human_bytes),
                &percent(row.quota_used()),
            ]);
        }
        text
    }
}

impl Row {
    fn new(now: &ActiveComponent, before: Option<&ActiveComponent>, seconds: Option<f64>) -> Self {
        // Another host counts from zero again.
        let since = |now: u64, before: Option<u64>| {
            before.filter(|before| *before <= now).map_or(now, |before| now - before)
        };
        let grown = |count: fn(&ActiveComponent) -> u64| since(count(now), before.map(count));
        let rate = |count| Some(to_float(grown(count)) / seconds?);
        let hits = grown(|component| component.memory_hits);
        let reads = hits.saturating_add(grown(|component| component.memory_misses));
        let timed = grown(|component| component.timed_operations);
        Self {
            id: now.id.clone(),
            operations_per_second: rate(|component| component.operations),
            bytes_per_second: rate(|component| component.bytes),
            hit_rate: part(hits, reads),
            refusals_per_second: rate(|component| component.refusals),
            mean_latency_us: part(grown(|component| component.latency_us), timed),
            used_bytes: now.usage.map(|usage| usage.used_bytes),
            quota_bytes: now.usage.and_then(|usage| usage.quota_bytes),
            key_count: now.usage.map(|usage| usage.key_count),
            quota_keys: now.usage.and_then(|usage| usage.quota_keys),
            has_calls: now.operations > 0,
        }
    }

    /// The larger of the used parts of the quota, from 0 to 1.
    fn quota_used(&self) -> Option<f64> {
        let bytes = self.used_bytes.zip(self.quota_bytes);
        let keys = self.key_count.zip(self.quota_keys);
        let parts =
            [bytes, keys].into_iter().flatten().filter_map(|(used, quota)| part(used, quota));
        parts.max_by(f64::total_cmp)
    }
}

/// `part` of `whole`; `None` of nothing.
fn part(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| to_float(part) / to_float(whole))
}

#[expect(clippy::cast_precision_loss, reason = "rates are rounded")]
fn to_float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are rounded")]
fn to_whole(rate: f64) -> u64 {
    rate.round() as u64
}

fn unknown() -> String {
    "-".to_owned()
}

fn number(rate: Option<f64>) -> String {
    rate.map_or_else(unknown, |rate| format!("{rate:.1}"))
}

fn percent(part: Option<f64>) -> String {
    part.map_or_else(unknown, |part| format!("{:.0} %", part * 100.0))
}
