//! The licence and the source of every dependency, judged against `deny.toml`
//! without cargo-deny, which takes minutes to install.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::workspace::{PLATFORM, cargo, output};

const DENY: &str = "deny.toml";
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

/// Judges every crate that the workspace builds on [`PLATFORM`] with all features,
/// for tests too.
///
/// # Errors
/// Every crate whose licence is not allowed or that is not from crates.io.
pub(crate) fn check(root: &Path) -> Result<()> {
    let path = root.join(DENY);
    let deny =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let allowed = allowed(&deny)?;
    let json = output(
        cargo(root)
            .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
            .args(["--filter-platform", PLATFORM]),
    )?;
    let metadata: Metadata =
        serde_json::from_str(&json).context("cannot read the output of cargo metadata")?;
    let violations: Vec<String> =
        metadata.packages.iter().filter_map(|package| judge(package, &allowed)).collect();
    if !violations.is_empty() {
        bail!("dependencies that {DENY} does not allow:\n  {}", violations.join("\n  "));
    }
    Ok(())
}

/// What is wrong with a package, if anything.
fn judge(package: &Package, allowed: &BTreeSet<String>) -> Option<String> {
    let Package { name, version, .. } = package;
    if let Some(source) = &package.source
        && source != CRATES_IO
    {
        return Some(format!("{name} {version} comes from {source}"));
    }
    let Some(licence) = &package.license else {
        return Some(format!("{name} {version} states no licence"));
    };
    match Expression::satisfied(licence, allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} {version} is licensed under {licence}")),
        Err(reason) => Some(format!("{name} {version}: licence {licence:?}: {reason}")),
    }
}

/// The list `allow` of the section `[licenses]`.
fn allowed(deny: &str) -> Result<BTreeSet<String>> {
    let list = deny
        .split_once("\n[licenses]")
        .and_then(|(_, section)| section.split_once("\nallow = ["))
        .and_then(|(_, list)| list.split_once(']'))
        .map(|(list, _)| list);
    let Some(list) = list else {
        bail!("{DENY} has no list `allow = [...]` in a section [licenses]");
    };
    Ok(list.lines().filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect())
}

/// A licence expression in SPDX's grammar: `OR` binds less than `AND`, and
/// `WITH` belongs to the licence before it. Old manifests write `/` for `OR`.
struct Expression<'a> {
    words: std::iter::Peekable<std::vec::IntoIter<&'a str>>,
    allowed: &'a BTreeSet<String>,
}

impl<'a> Expression<'a> {
    /// Whether one may choose licences, all of them allowed, that together
    /// satisfy `text`.
    fn satisfied(text: &str, allowed: &BTreeSet<String>) -> Result<bool> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut expression = Expression { words: words.into_iter().peekable(), allowed };
        let satisfied = expression.any()?;
        match expression.words.next() {
            None => Ok(satisfied),
            Some(word) => bail!("unexpected {word}"),
        }
    }

    fn any(&mut self) -> Result<bool> {
        let mut satisfied = self.all()?;
        while self.words.next_if_eq(&"OR").is_some() {
            satisfied |= self.all()?;
        }
        Ok(satisfied)
    }

    fn all(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.words.next_if_eq(&"AND").is_some() {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        match self.words.next() {
            Some("(") => {
                let satisfied = self.any()?;
                match self.words.next() {
                    Some(")") => Ok(satisfied),
                    _ => bail!("a bracket is not closed"),
                }
            }
            Some(")" | "OR" | "AND" | "WITH") | None => bail!("a licence is missing"),
            Some(name) if self.words.next_if_eq(&"WITH").is_some() => {
                let exception = self.words.next().context("an exception is missing")?;
                Ok(self.allowed.contains(&format!("{name} WITH {exception}")))
            }
            Some(name) => Ok(self.allowed.contains(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_allowed() -> BTreeSet<String> {
        allowed(
            "[advisories]\n\n[licenses]\nversion = 2\nallow = [\n    \"MIT\", # ours\n    \
             \"Apache-2.0\",\n    \"Apache-2.0 WITH LLVM-exception\",\n]\n\n[bans]\nallow = [\"x\"]\n",
        )
        .unwrap()
    }

    fn package(licence: Option<&str>, source: Option<&str>) -> Package {
        Package {
            name: "some".to_owned(),
            version: "1.2.3".to_owned(),
            license: licence.map(str::to_owned),
            source: source.map(str::to_owned),
        }
    }

    #[test]
    fn every_dependency_is_allowed() {
        // Without the backtrace that `unwrap` would show.
        if let Err(error) = check(&crate::workspace::root().unwrap()) {
            panic!("{error:#}");
        }
    }

    #[test]
    fn the_list_is_that_of_its_section() {
        assert_eq!(
            some_allowed().into_iter().collect::<Vec<_>>(),
            ["Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT"]
        );
        assert!(allowed("[bans]\nallow = [\"x\"]\n").is_err());
    }

    #[test]
    fn expressions_follow_the_grammar() {
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND Apache-2.0", true),
            ("(GPL-3.0 OR MIT) AND LGPL-3.0", false),
            ("(GPL-3.0 OR MIT) AND Apache-2.0", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("MIT WITH LLVM-exception", false),
            ("GPL-2.0 WITH LLVM-exception OR MIT", true),
        ];
        for (text, expected) in cases {
            let satisfied = Expression::satisfied(text, &some_allowed());
            assert_eq!(satisfied.unwrap(), expected, "{text}");
        }
        for text in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH"] {
            assert!(Expression::satisfied(text, &some_allowed()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_crate_is_named_with_what_is_wrong() {
        let wrong = |licence, source| judge(&package(licence, source), &some_allowed());
        assert_eq!(wrong(Some("MIT"), Some(CRATES_IO)), None);
        assert_eq!(wrong(Some("MIT"), None), None);
        assert_eq!(
            wrong(Some("GPL-3.0"), Some(CRATES_IO)).unwrap(),
            "some 1.2.3 is licensed under GPL-3.0"
        );
        assert_eq!(wrong(None, Some(CRATES_IO)).unwrap(), "some 1.2.3 states no licence");
        assert_eq!(
            wrong(Some("MIT"), Some("git+https://example.org/some")).unwrap(),
            "some 1.2.3 comes from git+https://example.org/some"
        );
    }
}
