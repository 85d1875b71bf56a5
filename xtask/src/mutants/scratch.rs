//! The copy of the working tree that mutants are tried in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::patch::Patch;
use crate::limit::status;
use crate::workspace::{cargo, output};

/// How many lines of a failed command are worth showing.
const LOG_LINES: usize = 30;

/// How a run of tests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Hung,
}

/// A copy of the tree, a build folder for it, and the log of the last command.
/// All three stay between runs, so that a second run builds little.
pub(super) struct Scratch {
    tree: PathBuf,
    build: PathBuf,
    log: PathBuf,
}

/// A patch that stands in the scratch tree.
pub(super) struct Applied {
    /// What the touched files held before; `None` for one that was not there.
    originals: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Applied {
    /// Puts back what was there before.
    pub(super) fn revert(self) -> Result<()> {
        for (path, original) in self.originals {
            match original {
                Some(bytes) => fs::write(&path, bytes),
                None if path.exists() => fs::remove_file(&path),
                None => Ok(()),
            }
            .with_context(|| format!("cannot restore {}", path.display()))?;
        }
        Ok(())
    }
}

impl Scratch {
    /// Brings the scratch folder under `target` to the state of the tree under
    /// `root`: the files that git tracks or would offer to track.
    pub(super) fn prepare(root: &Path, target: &Path) -> Result<Self> {
        let folder = target.join("mutants");
        let scratch = Self {
            tree: folder.join("tree"),
            build: folder.join("build"),
            log: folder.join("last.log"),
        };
        fs::create_dir_all(&scratch.tree)
            .with_context(|| format!("cannot create {}", scratch.tree.display()))?;
        let listed = output(git(root).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let wanted: BTreeSet<PathBuf> = listed
            .split('\0')
            .filter(|name| !name.is_empty())
            .map(PathBuf::from)
            // A tracked file may be deleted in the working tree.
            .filter(|name| root.join(name).is_file())
            .collect();
        remove_others(&scratch.tree, &scratch.tree, &wanted)?;
        for name in &wanted {
            copy_if_different(&root.join(name), &scratch.tree.join(name))?;
        }
        Ok(scratch)
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Applies a patch; the inner error says why it no longer applies.
    pub(super) fn apply(&self, patch: &Patch) -> Result<Result<Applied, String>> {
        let mut originals = Vec::new();
        for file in &patch.files {
            let path = self.tree.join(file);
            let bytes = path.is_file().then(|| fs::read(&path)).transpose();
            let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
            originals.push((path, bytes));
        }
        // Applied in full or not at all.
        let applying =
            git_apply(&self.tree, &patch.path, &[]).output().context("cannot start git")?;
        if applying.status.success() {
            return Ok(Ok(Applied { originals }));
        }
        Ok(Err(String::from_utf8_lossy(&applying.stderr).trim_end().to_owned()))
    }

    /// Builds the tests; false if something does not compile.
    pub(super) fn build(&self, tests: &[String]) -> Result<bool> {
        let mut command = self.cargo_test();
        command.arg("--no-run").args(tests);
        Ok(self.logged(command, None)?.is_some_and(|s| s.success()))
    }

    /// Runs the tests, which were built before, for at most `limit`.
    pub(super) fn test(&self, tests: &[String], limit: Option<Duration>) -> Result<Outcome> {
        let mut command = self.cargo_test();
        command.args(tests);
        Ok(match self.logged(command, limit)? {
            Some(status) if status.success() => Outcome::Passed,
            Some(_) => Outcome::Failed,
            None => Outcome::Hung,
        })
    }

    fn cargo_test(&self) -> Command {
        let mut command = cargo(&self.tree);
        command
            .arg("test")
            .env("CARGO_TARGET_DIR", &self.build)
            // A failing snapshot is a failing test, and leaves no new file.
            .env("INSTA_UPDATE", "no");
        command
    }

    /// Runs a command with its output in the log; `None` if it went over
    /// `limit` and was killed with all that it started.
    fn logged(&self, mut command: Command, limit: Option<Duration>) -> Result<Option<ExitStatus>> {
        let log = File::create(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        command.stdout(log.try_clone()?).stderr(log);
        status(&mut command, limit)
    }

    /// The last lines of the log.
    pub(super) fn log_end(&self) -> Result<String> {
        let bytes =
            fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(LOG_LINES);
        Ok(lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n"))
    }
}

/// `git apply` of a patch to `folder`, whatever repository lies around it.
pub(super) fn git_apply(folder: &Path, patch: &Path, options: &[&str]) -> Command {
    let mut command = git(folder);
    command.args(["apply", "--whitespace=nowarn"]).args(options).arg(patch);
    // Below a repository's root git silently leaves out what it thinks lies
    // outside of the current folder.
    if let Some(above) = folder.parent() {
        command.env("GIT_CEILING_DIRECTORIES", above);
    }
    command
}

/// A git command in `folder`, also when a git hook started this program or the
/// folder belongs to another user.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*"]).current_dir(folder).stdin(Stdio::null());
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
        command.env_remove(variable);
    }
    command
}

/// Removes every file below `folder` that is not in `wanted`, which holds
/// paths from `tree`.
fn remove_others(tree: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_others(tree, &path, wanted)?;
        } else if !path.strip_prefix(tree).is_ok_and(|name| wanted.contains(name)) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Copies a file; leaves one of the same contents alone, so that cargo does
/// not build it again.
fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    // Scripts keep their executable bit.
    fs::set_permissions(to, fs::metadata(from)?.permissions())
        .with_context(|| format!("cannot set the permissions of {}", to.display()))
}
