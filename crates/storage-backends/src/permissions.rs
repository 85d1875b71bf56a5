//! Finds file modes that give other users access to a store.

use std::path::{Path, PathBuf};

use storage_core::{Problem, ProblemKind};

/// The files and directories of a store that other users may access.
#[derive(Debug, Default)]
pub(crate) struct OpenToOthers {
    files: u64,
    directories: u64,
    /// The first one, with its mode.
    first: Option<(PathBuf, u32)>,
}

impl OpenToOthers {
    /// Examines a file or directory of the store. Ignores a missing or inaccessible one.
    pub(crate) fn examine(&mut self, path: &Path) {
        self.examine_for(path, 0o077);
    }

    /// Examines the store directory. Other users may search it but not write to it, which
    /// would let them replace the store.
    #[cfg(any(feature = "file", feature = "rocksdb"))]
    pub(crate) fn examine_root(&mut self, path: &Path) {
        self.examine_for(path, 0o022);
    }

    fn examine_for(&mut self, path: &Path, bits: u32) {
        let Some((mode, is_directory)) = mode_of(path).filter(|(mode, _)| mode & bits != 0) else {
            return;
        };
        if is_directory {
            self.directories += 1;
        } else {
            self.files += 1;
        }
        self.first.get_or_insert_with(|| (path.to_owned(), mode));
    }

    /// The warning for `store`; `chmod` is the command that removes the access.
    pub(crate) fn warning(self, store: &Path, chmod: &str) -> Option<Problem> {
        let (path, mode) = self.first?;
        let counted = |count: u64, one: &str, many: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {many}")),
        };
        let what: Vec<String> = [
            counted(self.files, "file", "files"),
            counted(self.directories, "directory", "directories"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let what = what.join(" and ");
        let example = if self.files + self.directories == 1 { "namely" } else { "for example" };
        let detail = format!(
            "the mode of {what} gives other users access, {example} {} (mode {mode:04o}); to remove \
             that access: {chmod} {}",
            path.display(),
            quoted(&store.display().to_string())
        );
        let problem = Problem::new(store.display().to_string(), detail);
        Some(problem.with_kind(ProblemKind::Permissions))
    }
}

/// Quotes a path for a shell.
fn quoted(path: &str) -> String {
    if path.starts_with('-') {
        return quoted(&format!("./{path}"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if !path.is_empty() && path.chars().all(is_plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Whether other users may enter a directory.
#[cfg(any(feature = "file", feature = "rocksdb"))]
pub(crate) fn others_may_enter(directory: &Path) -> bool {
    mode_of(directory).is_some_and(|(mode, _)| mode & 0o011 != 0)
}

/// The permissions of a path, and whether it is a directory.
#[cfg(unix)]
fn mode_of(path: &Path) -> Option<(u32, bool)> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = path.symlink_metadata().ok().filter(|found| !found.is_symlink())?;
    Some((metadata.permissions().mode() & 0o7777, metadata.is_dir()))
}

#[cfg(not(unix))]
fn mode_of(_path: &Path) -> Option<(u32, bool)> {
    None
}
