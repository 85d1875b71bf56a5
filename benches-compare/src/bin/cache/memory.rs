//! What the caches hold, which a program of its own counts.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use benches_compare::Size;
use benches_compare::caches::Kind;

use crate::hits::thousands;
use crate::rate_tables::{kib, names};

/// The program that counts.
const COUNTER: &str = "cache-bytes";

/// What the caches held, in the order of [`Kind::ALL`].
#[derive(Debug, PartialEq, Eq)]
struct Held {
    value_bytes: usize,
    percent: usize,
    entries: usize,
    /// As the allocator counts.
    allocated: Vec<u64>,
    /// As ours says.
    stated: u64,
}

/// The table of what the caches held.
pub(crate) fn table(size: Size) -> Result<String> {
    let held = read(&count(size)?)?;
    let mut table = format!(
        "| values | room for | {} | ours by its statistics |\n|---|---|---|---|---|---|\n",
        names()
    );
    for one in &held {
        let allocated: Vec<String> = one.allocated.iter().map(|bytes| kib(*bytes)).collect();
        table.push_str(&format!(
            "| {} bytes | {} %: {} | {} | {} |\n",
            one.value_bytes,
            one.percent,
            thousands(one.entries),
            allocated.join(" | "),
            kib(one.stated)
        ));
    }
    Ok(table)
}

/// Runs the counter, which lies beside this program.
fn count(size: Size) -> Result<String> {
    let program = std::env::current_exe()?.with_file_name(COUNTER);
    let mut command = Command::new(&program);
    if size == Size::Quick {
        command.arg("--quick");
    }
    let output = command.stderr(Stdio::inherit()).output().with_context(|| {
        format!("cannot start {}; `cargo xtask bench cache` builds it", program.display())
    })?;
    ensure!(output.status.success(), "{COUNTER} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Reads what it printed: a line for each cache, those of a table's row together.
fn read(text: &str) -> Result<Vec<Held>> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(Kind::ALL.len()).map(row).collect()
}

fn row(lines: &[&str]) -> Result<Held> {
    let mut held: Option<Held> = None;
    for (line, kind) in lines.iter().zip(Kind::ALL) {
        let words: Vec<&str> = line.split(' ').collect();
        let [value_bytes, percent, entries, name, allocated, stated] = *words else {
            bail!("{COUNTER} printed a line that is no row: {line:?}");
        };
        ensure!(name == kind.name(), "{COUNTER} printed a line of another cache: {line:?}");
        let held = held.get_or_insert(Held {
            value_bytes: value_bytes.parse()?,
            percent: percent.parse()?,
            entries: entries.parse()?,
            allocated: Vec::new(),
            stated: stated.parse()?,
        });
        held.allocated.push(allocated.parse()?);
    }
    held.filter(|held| held.allocated.len() == Kind::ALL.len())
        .with_context(|| format!("{COUNTER} left out a cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_counter_prints_is_read_back() {
        let text = "100 1 1000 ours 300 200\n100 1 1000 moka 400 0\n100 1 1000 LRU 500 0\n";
        let expected = Held {
            value_bytes: 100,
            percent: 1,
            entries: 1000,
            allocated: vec![300, 400, 500],
            stated: 200,
        };
        assert_eq!(read(text).unwrap(), [expected]);
        assert_eq!(read(&text.repeat(2)).unwrap().len(), 2);
        for wrong in ["100 1 1000 ours 300 200\n", "100 1 1000 moka 1 1\n", "ours\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
