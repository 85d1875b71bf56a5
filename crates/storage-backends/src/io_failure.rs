//! Messages for errors of the operating system: what failed on which path, why, and what
//! to do.

use std::ffi::OsStr;
use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::path::Path;

use storage_core::StorageError;

use crate::access::access_to;
use crate::file_system::{self, FileSystem};

/// With more free space than this, a full disk is not the only possible cause.
const ENOUGH_FOR_DATA: u64 = 1 << 30;

/// With this much free space, a directory could grow.
const ENOUGH_FOR_A_NAME: u64 = 1 << 20;

/// The largest file of file systems with 32-bit lengths.
const SMALL_MAXIMUM: u64 = u32::MAX as u64;

/// The longest path, without the terminating zero byte.
const PATH_BYTES: Option<u64> = if cfg!(target_os = "linux") { Some(4095) } else { None };

/// `cannot WHAT PATH: ERROR`, with the resource that is exhausted or the
/// permission that is missing, and what to do.
///
/// Call it before cleaning up: it examines what the file system has left.
pub(crate) fn message(what: &str, path: &Path, error: &io::Error) -> String {
    let mut text = format!("cannot {what} {}: {error}", path.display());
    if let Some(advice) = Cause::of(error).and_then(|cause| advice(cause, what, path)) {
        // Writing to memory cannot fail.
        let _ = write!(text, "; {advice}");
    }
    text
}

/// The error of an operation on a path; `what` is the verb of the [`message`].
pub(crate) fn failed(what: &str, path: &Path, error: &io::Error) -> StorageError {
    StorageError::IoError(message(what, path, error))
}

/// Why an operation failed, if more is known than the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    NoSpace,
    Quota,
    FileTooLarge,
    OpenFiles,
    SystemOpenFiles,
    NameTooLong,
    NoAccess,
    ReadOnly,
}

impl Cause {
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match error.kind() {
            ErrorKind::StorageFull => Some(Self::NoSpace),
            ErrorKind::QuotaExceeded => Some(Self::Quota),
            ErrorKind::FileTooLarge => Some(Self::FileTooLarge),
            ErrorKind::InvalidFilename => Some(Self::NameTooLong),
            ErrorKind::PermissionDenied => Some(Self::NoAccess),
            ErrorKind::ReadOnlyFilesystem => Some(Self::ReadOnly),
            _ if cfg!(unix) => match error.raw_os_error() {
                Some(EMFILE) => Some(Self::OpenFiles),
                Some(ENFILE) => Some(Self::SystemOpenFiles),
                _ => None,
            },
            _ => None,
        }
    }

    /// Finds the cause in the message of an engine.
    #[cfg(feature = "rocksdb")]
    pub(crate) fn in_text(text: &str) -> Option<Self> {
        let causes = [
            ("No space left on device", Self::NoSpace),
            ("Disk quota exceeded", Self::Quota),
            ("File too large", Self::FileTooLarge),
            ("Too many open files in system", Self::SystemOpenFiles),
            ("Too many open files", Self::OpenFiles),
            ("File name too long", Self::NameTooLong),
            ("Permission denied", Self::NoAccess),
            ("Operation not permitted", Self::NoAccess),
            ("Read-only file system", Self::ReadOnly),
        ];
        causes.iter().find(|(words, _)| text.contains(words)).map(|(_, cause)| *cause)
    }
}

/// What is exhausted or missing, and what to do. `what` failed on `path`.
pub(crate) fn advice(cause: Cause, what: &str, path: &Path) -> Option<String> {
    match cause {
        Cause::NoSpace => Some(no_space(only_changes_names(what), &file_system::containing(path))),
        Cause::Quota => Some(
            "the disk quota of this user, its group or the project is used up, in bytes or in \
             files: delete files, or have the quota raised"
                .to_owned(),
        ),
        Cause::FileTooLarge => Some(file_too_large(file_system::file_size_limit())),
        Cause::OpenFiles => Some(match file_system::open_files_limit() {
            Some(files) => format!(
                "this process may have {files} files open at once: raise the limit (ulimit -n)"
            ),
            None => "this process has too many files open".to_owned(),
        }),
        Cause::SystemOpenFiles => Some("the system-wide limit on open files is reached".to_owned()),
        Cause::NameTooLong => TooLong::of(path).map(TooLong::advice),
        Cause::NoAccess => access_to(path, only_changes_names(what)),
        Cause::ReadOnly => Some("the file system is mounted read-only".to_owned()),
    }
}

/// Whether an operation adds or removes a directory entry and writes no data.
fn only_changes_names(what: &str) -> bool {
    matches!(what, "create" | "replace" | "publish" | "remove" | "rename")
}

/// Describes which resource of a file system is exhausted.
fn no_space(only_changes_names: bool, disk: &FileSystem) -> String {
    let Some(bytes) = disk.free_bytes else { return "free some space and try again".to_owned() };
    let inodes = match disk.free_inodes {
        None => String::new(),
        Some(inodes) => format!(" and {inodes} inodes"),
    };
    match (bytes, disk.free_inodes) {
        (0, Some(0)) => "the file system has neither free space nor free inodes, of which each \
                         file and directory takes one: delete files and try again"
            .to_owned(),
        (_, Some(0)) => format!(
            "the file system has {} free, but no free inode, of which each file and directory \
             takes one: delete files and try again",
            human(bytes)
        ),
        (0, _) => "the file system is full: free some space and try again".to_owned(),
        (bytes, _)
            if bytes < if only_changes_names { ENOUGH_FOR_A_NAME } else { ENOUGH_FOR_DATA } =>
        {
            format!("the file system has only {} free: free some space and try again", human(bytes))
        }
        (bytes, _) if only_changes_names => format!(
            "the file system has {}{inodes} free, so it may be the directory that can take no \
             more names, or a quota or the file system's metadata that is used up",
            human(bytes)
        ),
        (bytes, _) => format!(
            "the file system has {}{inodes} free, so it may be a quota, the file system's \
             metadata or the disk below it that is used up",
            human(bytes)
        ),
    }
}

fn file_too_large(limit: Option<u64>) -> String {
    match limit {
        Some(bytes) if bytes < SMALL_MAXIMUM => format!(
            "this process may not write files larger than {bytes} bytes: raise the limit (ulimit -f)"
        ),
        Some(bytes) => format!(
            "this process may not write files larger than {bytes} bytes (ulimit -f), and the file \
             system has a limit of its own"
        ),
        None => "the file system does not support larger files".to_owned(),
    }
}

/// Describes which limit a path exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// What is limited, and its unit.
    pub(crate) limit: &'static str,
    pub(crate) max: u64,
    pub(crate) actual: u64,
}

impl TooLong {
    const NAME: &str = "bytes in a file name";
    const PATH: &str = "bytes in a path";

    /// `None` if the limit is not known.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        Self::by(path, file_system::containing(path).name_bytes)
    }

    fn by(path: &Path, name_bytes: Option<u64>) -> Option<Self> {
        let len = |part: &OsStr| part.as_encoded_bytes().len() as u64;
        let name = path.iter().map(len).max().unwrap_or_default();
        let whole = len(path.as_os_str());
        match (name_bytes, PATH_BYTES) {
            (Some(max), _) if name > max => Some(Self { limit: Self::NAME, max, actual: name }),
            (_, Some(max)) if whole > max => Some(Self { limit: Self::PATH, max, actual: whole }),
            _ => None,
        }
    }

    fn advice(self) -> String {
        let Self { limit, max, actual } = self;
        if limit == Self::PATH {
            format!("{actual} {limit} are over the system's limit of {max}: shorten the path")
        } else {
            format!("{actual} {limit} are over this file system's limit of {max}")
        }
    }
}

#[cfg(any(feature = "file", feature = "rocksdb"))]
impl From<TooLong> for StorageError {
    fn from(TooLong { limit, max, actual }: TooLong) -> Self {
        Self::LimitExceeded { limit, max, actual }
    }
}

/// Formats a number of bytes.
fn human(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(free_bytes: u64, free_inodes: Option<u64>) -> FileSystem {
        FileSystem { free_bytes: Some(free_bytes), free_inodes, name_bytes: None }
    }

    #[test]
    fn the_exhausted_resource_is_named() {
        let messages = [
            no_space(false, &disk(0, Some(100))),
            no_space(true, &disk(1 << 20, Some(0))),
            no_space(true, &disk(0, Some(0))),
            no_space(false, &disk(5000, Some(100))),
            no_space(true, &disk(5000, Some(100))),
            no_space(true, &disk(5 << 20, Some(100))),
            no_space(true, &disk(5 << 20, None)),
            no_space(false, &disk(7 << 30, Some(100))),
            no_space(false, &FileSystem::default()),
            file_too_large(Some(1024)),
            file_too_large(Some(1 << 40)),
            file_too_large(None),
        ]
        .join("\n");
        insta::assert_snapshot!(messages, @"
        the file system is full: free some space and try again
        the file system has 1.0 MiB free, but no free inode, of which each file and directory takes one: delete files and try again
        the file system has neither free space nor free inodes, of which each file and directory takes one: delete files and try again
        the file system has only 4.9 KiB free: free some space and try again
        the file system has only 4.9 KiB free: free some space and try again
        the file system has 5.0 MiB and 100 inodes free, so it may be the directory that can take no more names, or a quota or the file system's metadata that is used up
        the file system has 5.0 MiB free, so it may be the directory that can take no more names, or a quota or the file system's metadata that is used up
        the file system has 7.0 GiB and 100 inodes free, so it may be a quota, the file system's metadata or the disk below it that is used up
        free some space and try again
        this process may not write files larger than 1024 bytes: raise the limit (ulimit -f)
        this process may not write files larger than 1099511627776 bytes (ulimit -f), and the file system has a limit of its own
        the file system does not support larger files
        ");
    }

    #[test]
    fn a_name_is_measured_before_the_path() {
        let long = format!("store/{}", "k".repeat(200));
        let too_long = TooLong::by(Path::new(&long), Some(143)).unwrap();
        assert_eq!(too_long, TooLong { limit: TooLong::NAME, max: 143, actual: 200 });
        assert_eq!(TooLong::by(Path::new(&long), Some(255)), None);
        assert_eq!(TooLong::by(Path::new(&long), None), None);
        let deep = "dir/".repeat(2000);
        let of_path = TooLong::by(Path::new(&deep), Some(255)).map(|found| found.limit);
        assert_eq!(of_path, PATH_BYTES.map(|_| TooLong::PATH));
    }

    #[cfg(unix)]
    #[test]
    fn causes_follow_from_error_numbers() {
        for (number, cause) in [
            (1, Cause::NoAccess),
            (13, Cause::NoAccess),
            (23, Cause::SystemOpenFiles),
            (24, Cause::OpenFiles),
            (27, Cause::FileTooLarge),
            (28, Cause::NoSpace),
            (30, Cause::ReadOnly),
        ] {
            let error = io::Error::from_raw_os_error(number);
            assert_eq!(Cause::of(&error), Some(cause), "{error}");
        }
        assert_eq!(Cause::of(&io::Error::from_raw_os_error(5)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_error_numbers_of_quotas_and_names_are_known() {
        for (number, cause) in [(36, Cause::NameTooLong), (122, Cause::Quota)] {
            assert_eq!(Cause::of(&io::Error::from_raw_os_error(number)), Some(cause));
        }
    }
}
