//! The directory of the cache of compiled components, and whether other users could write
//! code there.

use std::path::{Path, PathBuf};

use super::super::environment::may_write;
use super::super::output::printable;

/// The directory of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CacheDirectory {
    /// Neither `XDG_CACHE_HOME` nor `HOME` is an absolute path.
    None,
    /// The cache is used. The directory may not exist yet.
    Trusted(PathBuf),
    /// The cache is not used, because another user could write code there.
    Refused {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl CacheDirectory {
    /// The directory, even if it is refused.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Trusted(path) | Self::Refused { path, .. } => Some(path),
        }
    }

    /// Why nothing can be written to the directory, although it is trusted, as far as this is
    /// known.
    pub(crate) fn not_writable(&self) -> Option<String> {
        let Self::Trusted(path) = self else { return None };
        // The part of the path that exists, if only as a link to nothing.
        let existing = path.ancestors().find(|above| above.symlink_metadata().is_ok())?;
        let shown = |path: &Path| printable(&path.display().to_string());
        match existing.exists() {
            false => Some(format!(
                "{} is a link to a directory that does not exist; create that directory, or remove \
                 the link",
                shown(existing)
            )),
            true if may_write(existing) == Some(false) => {
                Some(format!("{} is not writable", shown(path)))
            }
            true => None,
        }
    }

    /// Checks the directory and those above it. Creates nothing.
    pub(crate) fn find() -> Self {
        let Some(path) = user_cache() else { return Self::None };
        let path = path.join("storage-host").join("compiled");
        match distrust(&path) {
            None => Self::Trusted(path),
            Some(reason) => Self::Refused { path, reason },
        }
    }
}

/// The user's own cache directory, if the environment names one.
fn user_cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}

#[cfg(not(unix))]
pub(super) fn distrust(_path: &std::path::Path) -> Option<String> {
    Some("on this system the permissions of directories are not known".to_owned())
}

#[cfg(unix)]
pub(super) use unix::{create, distrust, is_own_file};

#[cfg(unix)]
mod unix {
    use std::ffi::OsString;
    use std::fs::{self, DirBuilder, Metadata, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    use std::path::{Component, Path, PathBuf};

    use rustix::process::geteuid;

    use crate::cli::escape::shell_quoted;

    /// Writable by the group or by all users.
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    /// In such a directory a user cannot replace the files of another one.
    const STICKY: u32 = 0o1000;
    /// The maximum number of symbolic links in a path, as in Linux.
    const MAX_LINKS: usize = 40;

    /// Whether a file is regular, and only this user can write it.
    pub(in super::super) fn is_own_file(metadata: &Metadata) -> bool {
        metadata.is_file()
            && metadata.uid() == geteuid().as_raw()
            && metadata.mode() & WRITABLE_BY_OTHERS == 0
    }

    /// Creates a directory and its missing parents for this user alone, whatever the umask.
    pub(in super::super) fn create(path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            // The umask may have removed permissions.
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o700)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let parent = path.parent().ok_or_else(|| io::Error::from(error.kind()))?;
                create(parent)?;
                // A parent that exists and cannot be entered, such as a dangling link.
                if !parent.is_dir() {
                    return Err(error);
                }
                create(path)
            }
            Err(error) => Err(error),
        }
    }

    /// Why another user could change or replace a directory, if so. The directory, those
    /// above it and all symbolic links in its path must belong to this user or root, and
    /// be writable by no other user. Missing directories are accepted.
    pub(in super::super) fn distrust(path: &Path) -> Option<String> {
        let mut left: Vec<OsString> = reversed(path);
        let mut links = 0;
        let mut reached = PathBuf::from("/");
        if let Some(reason) = distrust_directory(&reached, left.is_empty()) {
            return Some(reason);
        }
        while let Some(name) = left.pop() {
            if name == ".." {
                reached.pop();
                continue;
            }
            let next = reached.join(name);
            let metadata = match fs::symlink_metadata(&next) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => return Some(format!("cannot inspect {}: {error}", next.display())),
            };
            if !metadata.is_symlink() {
                if let Some(reason) = distrust_directory(&next, left.is_empty()) {
                    return Some(reason);
                }
                reached = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Some(format!("{} has too many symbolic links", path.display()));
            }
            if let Some(reason) = distrust_owner(&next, &metadata) {
                return Some(reason);
            }
            match fs::read_link(&next) {
                Ok(target) => {
                    if target.is_absolute() {
                        reached = PathBuf::from("/");
                    }
                    left.extend(reversed(&target));
                }
                Err(error) => return Some(format!("cannot read {}: {error}", next.display())),
            }
        }
        None
    }

    /// The names in a path, the last one first.
    fn reversed(path: &Path) -> Vec<OsString> {
        let names = path.components().rev().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        });
        names.collect()
    }

    fn distrust_directory(path: &Path, is_cache: bool) -> Option<String> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return Some(format!("cannot inspect {}: {error}", path.display())),
        };
        if !metadata.is_dir() {
            return Some(format!("{} is not a directory", path.display()));
        }
        if let Some(reason) = distrust_owner(path, &metadata) {
            return Some(reason);
        }
        let mode = metadata.mode();
        let is_protected = mode & STICKY != 0 && !is_cache;
        if mode & WRITABLE_BY_OTHERS != 0 && !is_protected {
            return Some(format!(
                "other users can write to {} (mode {:04o}); run: chmod go-w {}",
                path.display(),
                mode & 0o7777,
                shell_quoted(&path.to_string_lossy(), false)
            ));
        }
        None
    }

    fn distrust_owner(path: &Path, metadata: &Metadata) -> Option<String> {
        let (owner, own) = (metadata.uid(), geteuid().as_raw());
        (owner != own && owner != 0).then(|| {
            format!(
                "{} belongs to user {owner}, not to this user ({own}) or root; set XDG_CACHE_HOME \
                 to a directory of this user",
                path.display()
            )
        })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn missing_directories_are_created_but_not_behind_a_dangling_link() {
        let root = tempfile::tempdir().unwrap();
        create(&root.path().join("a/b/c")).unwrap();
        assert!(root.path().join("a/b/c").is_dir());
        symlink(root.path().join("missing"), root.path().join("link")).unwrap();
        assert!(create(&root.path().join("link/a/b")).is_err());
    }
}
