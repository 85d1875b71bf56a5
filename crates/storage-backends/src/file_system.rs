//! What is left of the resources that a store uses: on its file system and in this
//! process. `None` means unknown.

use std::path::Path;

/// What a file system has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// How much this process's user may write.
    pub(crate) free_bytes: Option<u64>,
    /// How many more files and directories can exist; `None` without a limit.
    pub(crate) free_inodes: Option<u64>,
    /// The longest name of a file or directory.
    pub(crate) name_bytes: Option<u64>,
}

/// The file system of a path, or of the nearest directory above it that can be examined.
#[cfg(target_os = "linux")]
pub(crate) fn containing(path: &Path) -> FileSystem {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let stat = absolute.ancestors().find_map(|above| rustix::fs::statvfs(above).ok());
    stat.map_or_else(FileSystem::default, |stat| FileSystem {
        free_bytes: Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
        free_inodes: (stat.f_files > 0).then_some(stat.f_favail),
        name_bytes: (stat.f_namemax > 0).then_some(stat.f_namemax),
    })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn containing(_path: &Path) -> FileSystem {
    FileSystem::default()
}

/// The largest file that this process may write, in bytes.
#[cfg(target_os = "linux")]
pub(crate) fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn file_size_limit() -> Option<u64> {
    None
}

/// How many files this process may have open at once.
#[cfg(target_os = "linux")]
pub(crate) fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open_files_limit() -> Option<u64> {
    None
}
