//! `tidy`: rejects terms that the glossary replaces, a list of phrases, and long
//! files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::workspace::{git, output};

const GLOSSARY: &str = "docs/glossary.md";
const MAX_LINES: usize = 700;

/// Parts of the paths of files that are not checked: they define the terms, or their text
/// is not ours.
#[rustfmt::skip]
const SKIPPED: [&str; 8] = [
    GLOSSARY, "xtask/src/tidy.rs", "docs/reference-document.md", "Cargo.lock", "LICENSE-",
    "/corpus/", "/fixtures/", ".svg",
];

/// Phrases that are hard to understand, and what to write instead.
const PHRASES: [(&str, &str); 8] = [
    ("at hand", "cached, available, ready"),
    ("he", "it, they, or the noun"),
    ("his", "its, their"),
    ("lest", "so that ... not"),
    ("nobody", "no one, no caller, nothing"),
    ("of a moment", "of one point in time"),
    ("whoever", "the caller, a program that"),
    ("todo!", "the code"),
];

/// Text that only looks like a term: methods of std, names on disk and in JSON, and a user.
#[rustfmt::skip]
const ALLOWED: [&str; 9] = [
    ".partition(", "partition_point", "\"ledgers\"", "`ledgers`", "airssys.ledger.1", "no_folder",
    "own keys", "own_keys", "\"nobody\"",
];

/// Endings that leave a word the same term.
const ENDINGS: [&str; 9] = ["", "s", "es", "d", "ed", "er", "ers", "ing", "'s"];

/// Checks every tracked text file under `root`. Prints every problem, or with `count`
/// how often each term occurs.
///
/// # Errors
/// If a file contains a rejected term or is too long.
pub(crate) fn run(root: &Path, count: bool) -> Result<()> {
    let findings = check(root)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    findings.iter().for_each(|(term, _)| *counts.entry(term).or_default() += 1);
    match count {
        true => counts.iter().for_each(|(term, count)| println!("{count:6}  {term}")),
        false => findings.iter().for_each(|(_, message)| println!("{message}")),
    }
    if !findings.is_empty() {
        bail!("tidy found {} problems", findings.len());
    }
    Ok(())
}

/// Every problem: its term, and a line that says where it is and what to do.
fn check(root: &Path) -> Result<Vec<(String, String)>> {
    let glossary = fs::read_to_string(root.join(GLOSSARY))
        .with_context(|| format!("cannot read {GLOSSARY}"))?;
    let mut terms = glossary_terms(&glossary);
    terms.extend(PHRASES.map(|(term, instead)| (term.to_owned(), instead.to_owned())));
    let mut findings = Vec::new();
    for file in output(git(root).args(["ls-files", "-z"]))?.split_terminator('\0') {
        if SKIPPED.iter().any(|skipped| file.contains(skipped)) {
            continue;
        }
        // Binary files are not UTF-8; a tracked file may be deleted in the working tree.
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        let lines = text.lines().count();
        if file.ends_with(".rs") && lines > MAX_LINES {
            let message = format!("{file}: {lines} lines: split it; {MAX_LINES} is the maximum");
            findings.push(("long file".to_owned(), message));
        }
        for (number, line) in text.lines().enumerate() {
            let line = ALLOWED.iter().fold(line.to_owned(), |line, name| line.replace(name, ""));
            for (term, instead) in terms.iter().filter(|(term, _)| contains(&line, term)) {
                let message = format!("{file}:{}: {term}: write {instead}", number + 1);
                findings.push((term.clone(), message));
            }
        }
    }
    Ok(findings)
}

/// The terms in the last column of the glossary's table, each with what replaces it.
fn glossary_terms(glossary: &str) -> Vec<(String, String)> {
    let mut terms = Vec::new();
    for row in glossary.lines().filter_map(|line| line.strip_prefix("| ")) {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [instead, _, rejected] = cells.as_slice() else { continue };
        let rejected = rejected.split(',').map(str::trim);
        let rejected = rejected.filter(|term| !term.is_empty() && *term != "not");
        terms.extend(rejected.map(|term| (term.to_owned(), (*instead).to_owned())));
    }
    terms
}

/// Whether `line` contains `term` as a word or in an identifier: `list_partitions`, `UsageLedger`.
fn contains(line: &str, term: &str) -> bool {
    let (lower, mut from) = (line.to_ascii_lowercase(), 0);
    while let Some(at) = lower.get(from..).and_then(|rest| rest.find(term)) {
        let (start, end) = (from + at, from + at + term.len());
        let (before, rest) = line.split_at(start);
        let (found, after) = rest.split_at(term.len());
        let is_start = !before.ends_with(char::is_alphabetic)
            || before.ends_with(char::is_lowercase) && found.starts_with(char::is_uppercase);
        let rest: String = after.chars().take_while(|c| c.is_alphabetic() || *c == '\'').collect();
        let next_word = found.ends_with(char::is_lowercase) && rest.starts_with(char::is_uppercase);
        if is_start && (next_word || ENDINGS.contains(&rest.to_lowercase().as_str())) {
            return true;
        }
        from = end;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run(&crate::workspace::root().unwrap(), false).unwrap();
    }

    #[test]
    fn terms_are_found_as_words_and_in_identifiers() {
        let found =
            ["a partition", "list_partitions", "PartitionKey", "usage_PARTITION", "partitioned"];
        assert!(found.iter().all(|line| contains(line, "partition")));
        assert!(!["repartition", "part"].iter().any(|line| contains(line, "partition")));
        assert!(contains("the UsageLedger's", "ledger") && !contains("unknown_key", "own_key"));
    }

    #[test]
    fn the_glossary_lists_the_rejected_terms() {
        let table = "| term | meaning | not |\n|---|---|---|\n| user key | a key | own key, own_key |\n| page | a | |\n";
        let instead = "user key".to_owned();
        let expected = ["own key", "own_key"].map(|term| (term.to_owned(), instead.clone()));
        assert_eq!(glossary_terms(table), expected);
    }
}
