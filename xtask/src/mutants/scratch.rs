//! The copy of the working tree that mutants are tried in.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::limit::status;
use crate::rocksdb::Variables;
use crate::workspace::{cargo, git, output};

/// How many lines of a failed command's log are shown.
const LOG_LINES: usize = 30;

/// How a run of tests ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Hung,
}

/// A copy of the tree, its build directory, and the log of the last command. All
/// three are kept between runs, so that a second run builds little.
pub(super) struct Scratch {
    tree: PathBuf,
    build: PathBuf,
    log: PathBuf,
    variables: Variables,
}

impl Scratch {
    /// Copies the tracked files under `root` to the scratch directory under `target`
    /// and removes all others there. Commands run with `variables`.
    pub(super) fn prepare(root: &Path, target: &Path, variables: Variables) -> Result<Self> {
        let directory = target.join("mutants");
        let scratch = Self {
            tree: directory.join("tree"),
            build: directory.join("build"),
            log: directory.join("last.log"),
            variables,
        };
        fs::create_dir_all(&scratch.tree)
            .with_context(|| format!("cannot create {}", scratch.tree.display()))?;
        let wanted = tracked_files(root)?;
        remove_others(&scratch.tree, &scratch.tree, &wanted)?;
        for name in &wanted {
            copy_if_different(&root.join(name), &scratch.tree.join(name))?;
        }
        Ok(scratch)
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Changes a source file of the copy while `action` runs.
    pub(super) fn with<T>(
        &self,
        path: &Path,
        text: &str,
        action: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let path = self.tree.join(path);
        let original =
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        let result = action();
        fs::write(&path, original).with_context(|| format!("cannot restore {}", path.display()))?;
        result
    }

    /// Builds the tests. Returns false if something does not compile.
    pub(super) fn build(&self, tests: &str) -> Result<bool> {
        Ok(self.logged(self.cargo_test(&["--no-run"], tests), None)?.is_some_and(|s| s.success()))
    }

    /// Runs the tests, which [`build`](Self::build) has built, for at most `limit`.
    pub(super) fn test(&self, tests: &str, limit: Option<Duration>) -> Result<Outcome> {
        Ok(match self.logged(self.cargo_test(&[], tests), limit)? {
            Some(status) if status.success() => Outcome::Passed,
            Some(_) => Outcome::Failed,
            None => Outcome::Hung,
        })
    }

    /// `cargo test` with these arguments. `tests` may begin with environment variables.
    fn cargo_test(&self, options: &[&str], tests: &str) -> Command {
        let words = tests.split_whitespace();
        let (variables, arguments): (Vec<_>, Vec<_>) =
            words.partition(|word| !word.starts_with('-') && word.contains('='));
        let mut command = cargo(&self.tree);
        command
            .arg("test")
            .envs(variables.iter().filter_map(|variable| variable.split_once('=')))
            .env("CARGO_TARGET_DIR", &self.build)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            // A failing snapshot fails the test and leaves no new file.
            .env("INSTA_UPDATE", "no")
            .args(options)
            .args(arguments);
        command
    }

    /// Runs a command with its output in the log. Returns `None` if it exceeded
    /// `limit` and was killed with its children.
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

/// The files under `root` that git tracks or would offer to track.
pub(super) fn tracked_files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = output(git(root).args(arguments))?;
    // A tracked file may be deleted in the working tree.
    let is_there = |path: &PathBuf| root.join(path).is_file();
    Ok(listed.split_terminator('\0').map(PathBuf::from).filter(is_there).collect())
}

/// Removes every file below `directory` whose path from `tree` is not in `wanted`.
fn remove_others(tree: &Path, directory: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
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

/// Copies a file unless the contents are the same, so that cargo does not build an
/// unchanged file again.
fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    // Scripts keep their executable bit.
    fs::set_permissions(to, fs::metadata(from)?.permissions())
        .with_context(|| format!("cannot set the permissions of {}", to.display()))
}
