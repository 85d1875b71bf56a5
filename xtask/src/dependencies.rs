//! The README's dependency table: what each crate and feature brings.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Graph, PLATFORM, Workspace};

const README: &str = "README.md";
const BEGIN: &str = "<!-- dependencies:begin -->";
const END: &str = "<!-- dependencies:end -->";

/// Rewrites the table in the README under `root`; tells whether it changed.
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
/// The first row that differs.
pub(crate) fn check(root: &Path) -> Result<()> {
    let (readme, fresh) = refresh(root)?;
    if readme == fresh {
        return Ok(());
    }
    let differing = readme.lines().zip(fresh.lines()).find(|(old, new)| old != new);
    let (old, new) = differing.unwrap_or(("a table with another number of rows", "see there"));
    bail!(
        "the dependency table in {README} is out of date: run `cargo xtask dependencies`\n  \
         it says   {old}\n  it should {new}"
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

/// `text` with what stands between the markers replaced.
fn replace(text: &str, table: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        bail!("{README} has no place for the table: put the lines {BEGIN} and {END} where it goes");
    };
    Ok(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

fn table(root: &Path) -> Result<String> {
    let workspace = Workspace::load(root)?;
    let mut table = String::from(
        "| crate and features | its own dependencies | crates in all |\n\
         |---|---|---:|\n",
    );
    for package in workspace.default_members() {
        for set in package.feature_sets() {
            let graph = Graph::resolve(root, set)?;
            table.push_str(&row(&graph, package.features.get("default")));
        }
    }
    writeln!(
        table,
        "\nWhat each brings is counted on {PLATFORM} with build dependencies and procedural \
         macros; the crate itself does not count."
    )?;
    Ok(table)
}

fn row(graph: &Graph, default: Option<&Vec<String>>) -> String {
    let set = &graph.set;
    let code = |names: &[String]| {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        quoted.join(", ")
    };
    let features = match (set.default_features, default) {
        (true, Some(default)) => format!("default: {}", code(default)),
        _ if !set.features.is_empty() => code(&set.features),
        (_, None) => String::new(),
        _ => "no features".to_owned(),
    };
    let separator = if features.is_empty() { "" } else { ", " };
    let mut direct: Vec<&str> = graph.direct().map(|node| node.name.as_str()).collect();
    direct.dedup();
    let direct = if direct.is_empty() { "none".to_owned() } else { direct.join(", ") };
    format!(
        "| `{}`{separator}{features} | {direct} | {} |\n",
        set.package,
        graph.dependency_count()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::FeatureSet;

    fn set(default_features: bool, features: &[&str]) -> FeatureSet {
        FeatureSet {
            package: "storage-backends".to_owned(),
            default_features,
            features: features.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn the_readme_tells_the_truth() {
        // Without the backtrace that `unwrap` would show.
        if let Err(error) = check(&crate::workspace::root().unwrap()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn a_row_counts_each_crate_once() {
        let graph = Graph::parse(
            set(false, &["memory"]),
            "0|storage-backends v0.1.0 (/ws)|memory\n\
             1|dashmap v6.2.1|\n\
             2|hashbrown v0.14.5|raw\n\
             1|hashbrown v0.16.0|\n\
             1|storage-core v0.1.0 (/ws)|\n\
             2|hashbrown v0.14.5|raw (*)",
        );
        assert_eq!(
            row(&graph.unwrap(), None),
            "| `storage-backends`, `memory` | dashmap, hashbrown, storage-core | 4 |\n"
        );
    }

    #[test]
    fn a_row_names_its_features() {
        let default = vec!["memory".to_owned(), "file".to_owned()];
        let tree = "0|storage-backends v0.1.0 (/ws)|";
        let of = |set, default| row(&Graph::parse(set, tree).unwrap(), default);
        assert_eq!(
            of(set(true, &[]), Some(&default)),
            "| `storage-backends`, default: `memory`, `file` | none | 0 |\n"
        );
        assert_eq!(
            of(set(false, &[]), Some(&default)),
            "| `storage-backends`, no features | none | 0 |\n"
        );
        assert_eq!(of(set(false, &[]), None), "| `storage-backends` | none | 0 |\n");
    }

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let text = format!("# Title\n{BEGIN}\nold\nolder\n{END}\nrest\n");
        let fresh = replace(&text, "new\n").unwrap();
        assert_eq!(fresh, format!("# Title\n{BEGIN}\nnew\n{END}\nrest\n"));
        assert_eq!(replace(&fresh, "new\n").unwrap(), fresh);
    }

    #[test]
    fn a_readme_without_markers_says_so() {
        for text in ["# Title\n", BEGIN, END] {
            let error = replace(text, "new\n").unwrap_err().to_string();
            assert!(error.contains(BEGIN) && error.contains(END), "{error}");
        }
    }
}
