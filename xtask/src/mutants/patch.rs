//! The format of a mutant: a unified diff below comment lines that say what it
//! breaks, why that matters, which tests should notice, which must notice too,
//! and what these need of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The folder of the patches, from the workspace's root.
const FOLDER: &str = "xtask/mutants";

/// One mutant.
#[derive(Debug)]
pub(super) struct Patch {
    /// The name of its file without `.patch`.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) breaks: String,
    pub(super) matters: String,
    /// The arguments of `cargo test`, one list for each `tests:` line.
    pub(super) tests: Vec<Vec<String>>,
    /// The same for tests each of which must notice by itself, whatever the
    /// others do.
    pub(super) also: Vec<Vec<String>>,
    /// What its tests need of the machine: `root`, or a program.
    pub(super) needs: Vec<String>,
    /// The files that the diff touches, from the workspace's root.
    pub(super) files: Vec<PathBuf>,
}

impl Patch {
    /// Whether this is the patch of that name, or of the group: what its name
    /// begins with, up to a hyphen.
    fn is_called(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Every command that it names.
    pub(super) fn commands(&self) -> impl Iterator<Item = &Vec<String>> {
        self.tests.iter().chain(&self.also)
    }

    /// The first thing that its tests need and this machine has not.
    pub(super) fn lacks(&self) -> Option<&str> {
        self.needs.iter().map(String::as_str).find(|need| !has(need))
    }
}

/// Whether the machine has what tests need.
fn has(need: &str) -> bool {
    if need == "root" {
        #[cfg(unix)]
        return fs::metadata("/proc/self")
            .is_ok_and(|about| std::os::unix::fs::MetadataExt::uid(&about) == 0);
        #[cfg(not(unix))]
        return false;
    }
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(need).is_file()))
}

/// Reads the named patches, or all of them where none is named, by name.
///
/// # Errors
/// If there is none, a name is unknown, or a header is incomplete.
pub(super) fn load(root: &Path, names: &[String]) -> Result<Vec<Patch>> {
    let patches = load_all(root)?;
    if patches.is_empty() {
        bail!("there is no patch in {FOLDER}");
    }
    for name in names {
        if !patches.iter().any(|patch| patch.is_called(name)) {
            bail!("there is no mutant {name}: see `cargo xtask mutants --list`");
        }
    }
    Ok(patches
        .into_iter()
        .filter(|patch| names.is_empty() || names.iter().any(|name| patch.is_called(name)))
        .collect())
}

fn load_all(root: &Path) -> Result<Vec<Patch>> {
    let folder = root.join(FOLDER);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut patches = Vec::new();
    let entries =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            patches.push(parse(&path, &text).with_context(|| path.display().to_string())?);
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

fn parse(path: &Path, text: &str) -> Result<Patch> {
    let mut breaks = Vec::new();
    let mut matters = Vec::new();
    let mut tests = Vec::new();
    let mut also = Vec::new();
    let mut needs = Vec::new();
    let mut header = text.lines().map_while(|line| line.strip_prefix('#'));
    for line in &mut header {
        let Some((field, value)) = line.split_once(':') else {
            bail!("cannot read the header's line #{line}: it is no `# field: text`");
        };
        let value = value.trim();
        let words = || value.split_whitespace().map(str::to_owned);
        match field.trim() {
            "breaks" => breaks.push(value),
            "matters" => matters.push(value),
            "tests" => tests.push(words().collect()),
            "also" => also.push(words().collect()),
            "needs" => needs.extend(words()),
            other => bail!(
                "the header's field {other} is none of breaks, matters, tests, also and needs"
            ),
        }
    }
    let mut files = Vec::new();
    for line in text.lines() {
        let name = line.strip_prefix("--- a/").or(line.strip_prefix("+++ b/"));
        // After the name there may be a tab and a date.
        let name = name.and_then(|name| name.split('\t').next());
        if let Some(name) = name.map(PathBuf::from)
            && !files.contains(&name)
        {
            files.push(name);
        }
    }
    if breaks.is_empty() || matters.is_empty() || tests.is_empty() {
        bail!("the header lacks one of the fields breaks, matters and tests");
    }
    if files.is_empty() {
        bail!("it holds no unified diff with lines `--- a/PATH` and `+++ b/PATH`");
    }
    Ok(Patch {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        breaks: breaks.join(" "),
        matters: matters.join(" "),
        tests,
        also,
        needs,
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::scratch;

    const DIFF: &str = "--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1 +1 @@\n-a\n+b\n";

    #[test]
    fn every_patch_applies() {
        let root = crate::workspace::root().unwrap();
        for patch in load_all(&root).unwrap() {
            let output = scratch::git_apply(&root, &patch.path, &["--check"]).output().unwrap();
            assert!(
                output.status.success(),
                "mutant {} no longer applies: {}",
                patch.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    #[test]
    fn a_header_is_read() {
        let text = format!(
            "# breaks: the first line,\n# breaks: and only it\n# matters: because: so\n\
             # tests: -p one --lib\n# tests: -p two -- name\n# also: -p three\n{DIFF}"
        );
        let patch = parse(Path::new("/x/first-line.patch"), &text).unwrap();
        assert_eq!(patch.name, "first-line");
        assert_eq!(patch.breaks, "the first line, and only it");
        assert_eq!(patch.matters, "because: so");
        assert_eq!(patch.tests, [vec!["-p", "one", "--lib"], vec!["-p", "two", "--", "name"]]);
        assert_eq!(patch.also, [vec!["-p", "three"]]);
        assert_eq!(patch.files, [Path::new("src/lib.rs")]);
    }

    #[test]
    fn a_patch_goes_by_its_name_and_its_group_and_says_what_it_needs() {
        let text = format!(
            "# breaks: a\n# matters: b\n# tests: -p c\n# needs: sh no-such-program\n{DIFF}"
        );
        let patch = parse(Path::new("/x/first-line.patch"), &text).unwrap();
        assert!(patch.is_called("first-line") && patch.is_called("first"));
        assert!(!patch.is_called("fir") && !patch.is_called("line"));
        assert_eq!(patch.lacks(), Some("no-such-program"));
    }

    #[test]
    fn an_incomplete_header_is_refused() {
        for (text, expected) in [
            (
                format!("# breaks: a\n# matters: b\n{DIFF}"),
                "the header lacks one of the fields breaks, matters and tests",
            ),
            (
                "# breaks: a\n# matters: b\n# tests: -p c\n".to_owned(),
                "it holds no unified diff with lines `--- a/PATH` and `+++ b/PATH`",
            ),
            (
                format!("# braeks: a\n{DIFF}"),
                "the header's field braeks is none of breaks, matters, tests, also and needs",
            ),
            (
                format!("# something\n{DIFF}"),
                "cannot read the header's line # something: it is no `# field: text`",
            ),
        ] {
            let error = parse(Path::new("x.patch"), &text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
