//! Reads archives without the code that writes them, and compares them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::content::Content;
use crate::guestbook;

/// The line of a key.
#[derive(Debug, Deserialize)]
struct Line {
    component: Option<String>,
    key: String,
    value_utf8: Option<String>,
    value_base64: Option<String>,
}

impl Line {
    fn value(&self) -> Result<Vec<u8>> {
        match (&self.value_utf8, &self.value_base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(base64)) => Ok(STANDARD.decode(base64)?),
            _ => anyhow::bail!("{}: not one value", self.key),
        }
    }
}

/// The lines of keys, in the order of the file.
fn key_lines(path: &Path) -> Result<impl Iterator<Item = Result<String>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let lines = BufReader::with_capacity(1 << 20, file).lines();
    let is_key = |line: &std::io::Result<String>| {
        line.as_ref().map_or(true, |line| line.starts_with(r#"{"component":"#))
    };
    Ok(lines.filter(is_key).map(|line| Ok(line?)))
}

/// Checks that an archive has all of the content, and a consistent guestbook. Returns the number
/// of its entries.
pub(crate) fn check(path: &Path, content: Content) -> Result<u64> {
    let (mut component, mut number, mut seen) = (0, 0, 0);
    let (mut count, mut entries) = (0, 0);
    for line in key_lines(path)? {
        let line: Line = serde_json::from_str(&line?)?;
        let id = line.component.as_deref().context("an unscoped key")?;
        if id == guestbook::ID {
            match line.key.as_str() {
                "count" => count = String::from_utf8(line.value()?)?.parse()?,
                _ => entries += 1,
            }
            continue;
        }
        while number == content.keys_of(component) {
            (component, number) = (component + 1, 0);
            ensure!(component < content.components, "{id}: an unknown component");
        }
        ensure!(id == Content::id(component), "{id} instead of {}", Content::id(component));
        ensure!(line.key == Content::key(number), "{id}: key {} is missing", Content::key(number));
        ensure!(line.value()? == Content::value(component, number), "{id}/{}: wrong", line.key);
        number += 1;
        seen += 1;
    }
    ensure!(seen == content.keys, "{seen} keys instead of {}", content.keys);
    // The guest writes both in one commit.
    ensure!(count == entries, "the guestbook counts {count} entries and has {entries}");
    Ok(entries)
}

/// Checks that two archives have the same keys and values, byte for byte.
pub(crate) fn compare(one: &Path, other: &Path) -> Result<u64> {
    let (mut ones, mut others) = (key_lines(one)?, key_lines(other)?);
    for number in 0.. {
        match (ones.next().transpose()?, others.next().transpose()?) {
            (None, None) => return Ok(number),
            (one, other) => ensure!(one == other, "key line {number}: {one:?} and {other:?}"),
        }
    }
    Ok(0)
}
