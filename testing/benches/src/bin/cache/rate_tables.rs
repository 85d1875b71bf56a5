//! Hit rates and their cost, as tables.

use benches::caches::Kind;

use crate::hits::thousands;
use crate::rates::{Outcomes, SETTINGS, Tried, TriedInBytes};

/// The hit rates, and whether they meet their targets.
pub(crate) fn rates(all: &[Tried]) -> String {
    let mut table = format!(
        "| trace | room for | {} | above the best other | above LRU | target | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        names()
    );
    for one in all {
        table.push_str(&rates_line(one));
        table.push('\n');
    }
    table
}

/// A line of it.
pub(crate) fn rates_line(one: &Tried) -> String {
    let [ours, moka, lru] = one.hits();
    let [to_best, to_lru] = one.margins();
    format!(
        "| {} | {} % | {ours:.1} | {moka:.1} | {lru:.1} | {to_best:+.1} | {to_lru:+.1} | {} | {} |",
        one.trace,
        one.percent,
        one.target(),
        if one.is_met() { "met" } else { "MISSED" },
    )
}

/// What an access costs.
pub(crate) fn costs(all: &[Tried]) -> String {
    let setting = |(threads, value_bytes)| format!("{threads} × {value_bytes} bytes");
    let mut table = format!(
        "| trace | room for | {} |\n|---|---|{}\n",
        SETTINGS.map(setting).join(" | "),
        "---|".repeat(SETTINGS.len())
    );
    for one in all {
        let cells: Vec<String> = one.outcomes.iter().map(nanoseconds).collect();
        table.push_str(&format!("| {} | {} % | {} |\n", one.trace, one.percent, cells.join(" | ")));
    }
    table
}

fn nanoseconds(outcomes: &Outcomes) -> String {
    outcomes.map(|one| format!("{:.0}", one.seconds * 1e9)).join(" / ")
}

/// The hit rates with a bound in bytes.
pub(crate) fn in_bytes(all: &[TriedInBytes]) -> String {
    let mut table = format!(
        "| values | bytes | trace | {} | entries at the end |\n|---|---|---|---|---|---|---|\n",
        names()
    );
    for one in all {
        table.push_str(&bytes_line(one));
        table.push('\n');
    }
    table
}

/// A line of it.
pub(crate) fn bytes_line(one: &TriedInBytes) -> String {
    format!(
        "| {} bytes | {} | {} | {} | {} |",
        one.value_bytes,
        kib(one.budget as u64),
        one.trace,
        one.outcomes.map(|one| format!("{:.1}", one.hits)).join(" | "),
        one.outcomes.map(|one| thousands(one.entries as usize)).join(" / "),
    )
}

/// The names of the caches, as columns.
pub(crate) fn names() -> String {
    Kind::ALL.map(Kind::name).join(" | ")
}

pub(crate) fn kib(bytes: u64) -> String {
    format!("{} KiB", thousands((bytes as usize).div_ceil(1 << 10)))
}
