//! Mutants as `xtask/mutants/*.toml` describes them, and the sources that they
//! change.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::servers::ENGINES;

const DIRECTORY: &str = "xtask/mutants";

#[derive(Deserialize)]
struct File {
    mutant: Vec<Mutant>,
}

/// A change to the sources that at least one test must detect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mutant {
    pub(super) name: String,
    /// What the changed code does wrong.
    pub(super) breaks: String,
    /// What this would cost a user.
    pub(super) matters: String,
    /// Code that occurs exactly once in the sources. White space does not count, so a
    /// snippet survives reformatting and a move to another file.
    find: String,
    replace: String,
    /// Arguments of `cargo test`. One command that fails is enough.
    pub(super) tests: Vec<String>,
    /// Commands each of which must fail too.
    #[serde(default)]
    pub(super) also: Vec<String>,
    /// What the tests need: `root`, servers that are started for them, such as `postgres` or
    /// `redis`, or a program on the path.
    #[serde(default)]
    needs: Vec<String>,
}

impl Mutant {
    /// Whether this is the mutant `name`, or a member of the group `name`: the first
    /// words of its name.
    fn is_called(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    pub(super) fn commands(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().chain(&self.also).map(String::as_str)
    }

    /// The first requirement of its tests that this machine does not meet.
    pub(super) fn lacks(&self) -> Option<&str> {
        self.needs.iter().map(String::as_str).find(|need| !is_met(need))
    }

    /// Whether this is one of the needs of its tests.
    pub(super) fn needs(&self, name: &str) -> bool {
        self.needs.iter().any(|need| need == name)
    }

    /// The source file that contains the snippet, and its text after the change.
    ///
    /// # Errors
    /// If the snippet does not occur exactly once.
    pub(super) fn apply<'s>(&self, sources: &'s [Source]) -> Result<(&'s Source, String)> {
        let (snippet, _) = compact(&self.find);
        let mut found = sources.iter().flat_map(|source| {
            source.compact.match_indices(&snippet).map(move |(at, _)| (source, at))
        });
        let Some((source, at)) = found.next() else {
            bail!("no source contains its snippet: update `find` in {DIRECTORY}");
        };
        if let Some((other, _)) = found.next() {
            let (first, second) = (source.path.display(), other.path.display());
            bail!("its snippet occurs in {first} and again in {second}: make `find` longer");
        }
        let offset = |index: usize| source.offsets.get(index).copied().context("empty snippet");
        let (start, last) = (offset(at)?, offset(at + snippet.len().saturating_sub(1))?);
        let (before, _) = source.text.split_at(start);
        let (_, after) = source.text.split_at(last + 1);
        Ok((source, format!("{before}{}{after}", self.replace.trim())))
    }
}

fn is_met(need: &str) -> bool {
    if need == "root" {
        return crate::packages::is_root();
    }
    if let Some(engine) = ENGINES.iter().find(|engine| engine.feature == need) {
        // Installs it if that is possible.
        return engine.install().is_ok();
    }
    crate::packages::is_installed(need)
}

/// A source file that mutants may change.
pub(super) struct Source {
    /// From the workspace's root.
    pub(super) path: PathBuf,
    text: String,
    /// The text without white space.
    compact: String,
    /// For each byte of `compact`, its offset in `text`.
    offsets: Vec<usize>,
}

impl Source {
    /// Reads the sources in Rust, SQL and Lua among `files`; the tests of a crate are not sources.
    pub(super) fn read_all<'f>(
        root: &Path,
        files: impl IntoIterator<Item = &'f PathBuf>,
    ) -> Result<Vec<Self>> {
        let is_source = |path: &&PathBuf| {
            ["rs", "sql", "lua"].iter().any(|name| path.extension() == Some(OsStr::new(name)))
                && path.components().any(|part| part.as_os_str() == "src")
                && !path.starts_with("xtask")
        };
        let read = |path: &PathBuf| {
            let text = fs::read_to_string(root.join(path))
                .with_context(|| format!("cannot read {}", path.display()))?;
            let (compact, offsets) = compact(&text);
            Ok(Self { path: path.clone(), text, compact, offsets })
        };
        files.into_iter().filter(is_source).map(read).collect()
    }
}

/// `text` without white space, and the offset of each of its bytes in `text`.
fn compact(text: &str) -> (String, Vec<usize>) {
    let mut compact = String::with_capacity(text.len());
    let mut offsets = Vec::with_capacity(text.len());
    for (at, character) in text.char_indices().filter(|(_, character)| !character.is_whitespace()) {
        compact.push(character);
        offsets.extend(at..at + character.len_utf8());
    }
    (compact, offsets)
}

/// Reads the named mutants, or all if `names` is empty, in the order of their names.
///
/// # Errors
/// If there is none, a name is unknown, or a file cannot be parsed.
pub(super) fn load(root: &Path, names: &[String]) -> Result<Vec<Mutant>> {
    let directory = root.join(DIRECTORY);
    let mut mutants = Vec::new();
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File =
            toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))?;
        mutants.extend(file.mutant);
    }
    if mutants.is_empty() {
        bail!("there is no mutant in {DIRECTORY}");
    }
    for name in names {
        if !mutants.iter().any(|mutant| mutant.is_called(name)) {
            bail!("there is no mutant {name}: see `cargo xtask mutants --list`");
        }
    }
    mutants.retain(|mutant| names.is_empty() || names.iter().any(|name| mutant.is_called(name)));
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::scratch;

    #[test]
    fn the_snippet_of_every_mutant_occurs_once() {
        let root = crate::workspace::root().unwrap();
        let sources = Source::read_all(&root, &scratch::tracked_files(&root).unwrap()).unwrap();
        let mutants = load(&root, &[]).unwrap();
        let stale: Vec<String> = mutants
            .iter()
            .filter_map(|mutant| Some((mutant, mutant.apply(&sources).err()?)))
            .map(|(mutant, error)| format!("mutant {}: {error:#}", mutant.name))
            .collect();
        assert!(stale.is_empty(), "{}", stale.join("\n"));
        assert!(mutants.windows(2).all(|pair| pair[0].name != pair[1].name), "a name occurs twice");
    }

    #[test]
    fn a_snippet_is_replaced_whatever_its_white_space() {
        let mutant = |find: &str, replace: &str| Mutant {
            name: "a-b".to_owned(),
            breaks: String::new(),
            matters: String::new(),
            find: find.to_owned(),
            replace: replace.to_owned(),
            tests: vec![],
            also: vec![],
            needs: vec!["no-such-program".to_owned()],
        };
        let text = "é = one(\n    1,\n);\nlet two = one;\n";
        let (compact, offsets) = compact(text);
        let path = PathBuf::from("src/lib.rs");
        let sources = [Source { path, text: text.to_owned(), compact, offsets }];
        let applied = |find| mutant(find, "é").apply(&sources).map(|(_, text)| text);
        assert_eq!(applied("one(1,)").unwrap(), "é = é;\nlet two = one;\n");
        assert!(applied("one").unwrap_err().to_string().contains("again in src/lib.rs"));
        assert!(applied("three").unwrap_err().to_string().starts_with("no source contains"));
        let mutant = mutant("", "");
        assert!(mutant.is_called("a-b") && mutant.is_called("a") && !mutant.is_called("b"));
        assert_eq!(mutant.lacks(), Some("no-such-program"));
    }
}
