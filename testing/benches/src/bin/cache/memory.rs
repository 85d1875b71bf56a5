//! What the caches hold, which a program of its own counts.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use benches::Size;
use benches::caches::{Bound, Kind};

use crate::hits::thousands;
use crate::rate_tables::{kib, names};

/// The program that counts.
const COUNTER: &str = "cache-bytes";

/// What the caches held, in the order of [`Kind::ALL`].
#[derive(Debug, PartialEq, Eq)]
struct Held {
    value_bytes: usize,
    bound: Bound,
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
            "| {} bytes | {} | {} | {} |\n",
            one.value_bytes,
            match one.bound {
                Bound::Entries(most) => format!("{} entries", thousands(most)),
                Bound::Bytes(most) => kib(most as u64),
            },
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
        let [value_bytes, most, unit, name, allocated, stated] = *words else {
            bail!("{COUNTER} printed a line that is no row: {line:?}");
        };
        ensure!(name == kind.name(), "{COUNTER} printed a line of another cache: {line:?}");
        let held = held.get_or_insert(Held {
            value_bytes: value_bytes.parse()?,
            bound: match unit {
                "bytes" => Bound::Bytes(most.parse()?),
                _ => Bound::Entries(most.parse()?),
            },
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
        let line = |bound, cache| format!("100 {bound} {cache}\n");
        let lines = |bound| ["ours 300 200", "moka 400 0", "LRU 500 0"].map(|of| line(bound, of));
        let text = lines("1000 entries").concat();
        let expected = Held {
            value_bytes: 100,
            bound: Bound::Entries(1000),
            allocated: vec![300, 400, 500],
            stated: 200,
        };
        assert_eq!(read(&text).unwrap(), [expected]);
        let both = read(&(text + &lines("64000 bytes").concat())).unwrap();
        assert_eq!(both.last().unwrap().bound, Bound::Bytes(64_000));
        for wrong in ["100 9 entries ours 300 200\n", "100 9 entries moka 1 1\n", "ours\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
