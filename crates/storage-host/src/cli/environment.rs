//! What the operating system reports about paths and about this process, as far as it does.

use std::path::Path;

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FileSystem {
    /// Its type, such as `ext4`, `nfs4` or `fuse.sshfs`.
    pub(super) kind: Option<String>,
    pub(super) read_only: Option<bool>,
    pub(super) free_bytes: Option<u64>,
    pub(super) total_bytes: Option<u64>,
    /// How many more files fit; `None` if their number is not limited.
    pub(super) free_files: Option<u64>,
    /// The length of the longest file name.
    pub(super) name_bytes: Option<u64>,
}

/// The file system of a path that exists.
#[cfg(target_os = "linux")]
pub(super) fn file_system(path: &Path) -> FileSystem {
    use rustix::fs::{StatVfsMountFlags, statvfs};

    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kind = std::fs::canonicalize(path).ok().and_then(|path| kind_of(&mounts, &path));
    let Ok(stat) = statvfs(path) else { return FileSystem { kind, ..FileSystem::default() } };
    FileSystem {
        kind,
        read_only: Some(stat.f_flag.contains(StatVfsMountFlags::RDONLY)),
        free_bytes: Some(stat.f_bavail.saturating_mul(stat.f_frsize)),
        total_bytes: Some(stat.f_blocks.saturating_mul(stat.f_frsize)),
        free_files: (stat.f_files > 0).then_some(stat.f_favail),
        name_bytes: (stat.f_namemax > 0).then_some(stat.f_namemax),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn file_system(_path: &Path) -> FileSystem {
    FileSystem::default()
}

/// The type of the file system of a path, from the text of `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let mut deepest: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        // 36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/sda rw
        let Some((mount, file_system)) = line.split_once(" - ") else { continue };
        let (Some(at), Some(kind)) = (mount.split(' ').nth(4), file_system.split(' ').next())
        else {
            continue;
        };
        let at = unescaped(at);
        let depth = Path::new(&at).components().count();
        // Of two mounts on the same path the later one hides the other.
        if path.starts_with(&at) && deepest.is_none_or(|(before, _)| depth >= before) {
            deepest = Some((depth, kind));
        }
    }
    deepest.map(|(_, kind)| kind.to_owned())
}

/// Decodes special characters, which are a backslash and three octal digits.
#[cfg(any(target_os = "linux", test))]
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.split_at_checked(3).map(|(digits, rest)| (u8::from_str_radix(digits, 8), rest)) {
            Some((Ok(byte), rest)) => {
                whole.push(byte);
                whole.extend_from_slice(rest.as_bytes());
            }
            _ => {
                whole.push(b'\\');
                whole.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&whole).into_owned()
}

/// Whether this process may write to a file, or create files in a directory.
pub(super) fn may_write(path: &Path) -> Option<bool> {
    may(path, Access::Write)
}

/// Whether this process may read a file, or list a directory.
pub(super) fn may_read(path: &Path) -> Option<bool> {
    may(path, Access::Read)
}

#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

#[cfg(target_os = "linux")]
fn may(path: &Path, access: Access) -> Option<bool> {
    use rustix::fs::{Access as Wanted, AtFlags, CWD, accessat};

    let mut wanted = match access {
        Access::Read => Wanted::READ_OK,
        Access::Write => Wanted::WRITE_OK,
    };
    if path.is_dir() {
        wanted |= Wanted::EXEC_OK;
    }
    Some(accessat(CWD, path, wanted, AtFlags::EACCESS).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn may(_path: &Path, _access: Access) -> Option<bool> {
    None
}

/// The limit on open files of this process.
#[cfg(target_os = "linux")]
pub(super) fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_files_limit() -> Option<u64> {
    None
}

/// The limit on the size of files that this process writes, in bytes.
#[cfg(target_os = "linux")]
pub(super) fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(not(target_os = "linux"))]
pub(super) fn file_size_limit() -> Option<u64> {
    None
}

/// The risk of a store on a type of file system, if there is one.
pub(super) fn caution(kind: &str) -> Option<&'static str> {
    match kind {
        "tmpfs" | "ramfs" => Some(
            "is in memory: the store is lost when it is unmounted or the machine restarts, \
             whatever the durability",
        ),
        "overlay" | "overlayfs" | "aufs" => Some(
            "is a layer of a container: the store is deleted with the container; put it on a \
             volume",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "afs" | "ceph" | "lustre" | "gfs2"
        | "ocfs2" | "virtiofs" | "prl_fs" | "vboxsf" => Some(
            "is shared over a network or with a host: whether locks keep a second writer out, and \
             whether fsynced data survives, depends on the server",
        ),
        "vfat" | "exfat" | "msdos" => Some(
            "has no journal and no permissions: a power cut can damage the whole store, and every \
             user can read it",
        ),
        "fuseblk" => Some(
            "is implemented by a program: whether fsynced data survives depends on that program",
        ),
        kind if kind == "fuse" || kind.starts_with("fuse.") => Some(
            "is implemented by a program: whether locks, renames and fsync work depends on that \
             program",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:20 / /tmp rw - tmpfs tmpfs rw
24 22 0:21 / /mnt/my\\040disk rw shared:3 master:1 - fuse.sshfs host:/x rw
25 22 0:22 / /tmp rw - overlay overlay rw
26 22 0:23 / /data rw - nfs4 host:/data rw
half a line
";

    #[test]
    fn the_deepest_and_last_mount_counts() {
        for (path, kind) in [
            ("/srv/data", "ext4"),
            ("/tmp", "overlay"),
            ("/tmp/a", "overlay"),
            ("/tmpx/a", "ext4"),
            ("/mnt/my disk/store", "fuse.sshfs"),
            ("/mnt/my", "ext4"),
            ("/data/store", "nfs4"),
        ] {
            assert_eq!(kind_of(MOUNTS, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn octal_escapes_are_decoded() {
        assert_eq!(unescaped(r"/a\040b\134c\011"), "/a b\\c\t");
        assert_eq!(unescaped(r"/a\04\999"), r"/a\04\999");
    }

    #[test]
    fn only_file_systems_with_a_risk_have_a_caution() {
        for kind in ["ext4", "xfs", "btrfs", "zfs", "f2fs", "apfs"] {
            assert_eq!(caution(kind), None, "{kind}");
        }
        for kind in ["tmpfs", "overlay", "nfs4", "9p", "fuse.sshfs", "fuseblk", "vfat"] {
            assert!(caution(kind).is_some(), "{kind}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_described() {
        let here = file_system(Path::new("/"));
        assert!(here.kind.is_some() && here.total_bytes.is_some_and(|bytes| bytes > 0), "{here:?}");
        assert!(open_files_limit().is_none_or(|files| files > 0));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(may_write(dir.path()), Some(true));
        assert_eq!(may_write(&dir.path().join("missing")), Some(false));
    }
}
