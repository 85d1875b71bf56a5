//! The README's table of dependencies: those of the default build, of a build without
//! features, and of each store.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{FeatureSet, Graph, PLATFORM};

const README: &str = "README.md";
const BEGIN: &str = "<!-- dependencies:begin -->";
const END: &str = "<!-- dependencies:end -->";
const HOST: &str = "storage-host";
const BACKENDS: &str = "storage-backends";
const STORES: [&str; 6] = ["memory", "file", "redb", "rocksdb", "postgres", "redis"];

/// Rewrites the table in the README under `root`. Returns whether it changed.
pub(crate) fn write(root: &Path) -> Result<bool> {
    let (readme, fresh) = refresh(root)?;
    if readme != fresh {
        let path = root.join(README);
        fs::write(&path, &fresh).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(readme != fresh)
}

/// Compares the table in the README under `root` with what cargo resolves.
///
/// # Errors
/// If they differ. The message shows the first row that does.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (readme, fresh) = refresh(root)?;
    if readme == fresh {
        return Ok(());
    }
    let differing = readme.lines().zip(fresh.lines()).find(|(old, new)| old != new);
    let (old, new) = differing.unwrap_or(("a different number of rows", "see its output"));
    bail!(
        "the table of dependencies in {README} is out of date: run `cargo xtask dependencies`\n  \
         current   {old}\n  expected  {new}"
    )
}

/// The README as it is, and as it should be.
fn refresh(root: &Path) -> Result<(String, String)> {
    let path = root.join(README);
    let readme =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let fresh = replace(&readme, &table(root)?)?;
    Ok((readme, fresh))
}

/// Replaces the text between the markers.
fn replace(text: &str, table: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("{README} has no table of dependencies: add the lines {BEGIN} and {END}");
    };
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(root: &Path) -> Result<String> {
    let set = |package: &str, default_features, features: &[&str]| FeatureSet {
        package: package.to_owned(),
        default_features,
        features: features.iter().map(ToString::to_string).collect(),
    };
    let count = |set| Graph::resolve(root, set).map(|graph| graph.dependency_count());
    let mut table = String::from("| build | crates |\n|---|---:|\n");
    writeln!(table, "| `{HOST}`, default features | {} |", count(set(HOST, true, &[]))?)?;
    writeln!(
        table,
        "| `{HOST}`, no features: no stores, no wasmtime | {} |",
        count(set(HOST, false, &[]))?
    )?;
    for store in STORES {
        let graph = Graph::resolve(root, set(BACKENDS, false, &[store]))?;
        let names = graph.direct().map(|node| node.name.as_str());
        let names: Vec<&str> = names.filter(|name| *name != "storage-core").collect();
        let row = format!("the store `{store}` alone: {}", names.join(", "));
        writeln!(table, "| {row} | {} |", graph.dependency_count())?;
    }
    writeln!(
        table,
        "\nAll dependencies on {PLATFORM} count, including build dependencies and procedural macros."
    )?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_is_up_to_date() {
        // Without the backtrace that `unwrap` would show.
        if let Err(error) = check(&crate::workspace::root().unwrap()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn only_text_between_the_markers_is_replaced() {
        let text = format!("# Title\n{BEGIN}\nold\nolder\n{END}\nrest\n");
        let fresh = replace(&text, "new\n").unwrap();
        assert_eq!(fresh, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert!(replace("# Title\n", "new\n").unwrap_err().to_string().contains(BEGIN));
    }
}
