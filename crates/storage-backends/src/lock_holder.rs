//! Finds the process that holds a lock, on Linux.
//!
//! A process is named only if it has the file open. A process id in a file outlives its
//! process, and means another process in another container.

use std::fs::File;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux names the holder"))]
pub(crate) enum Holder {
    ThisProcess,
    Process(u32),
    /// It may be in another container or on another machine.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    Exclusive,
    Shared,
}

impl LockKind {
    /// The lock type as in `/proc/locks`.
    #[cfg(target_os = "linux")]
    fn word(self) -> &'static str {
        match self {
            Self::Exclusive => "WRITE",
            Self::Shared => "READ",
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder_of(_file: &File, _kind: LockKind) -> Holder {
    Holder::Unknown
}

/// Finds the process that holds a lock of this kind on the file.
#[cfg(target_os = "linux")]
pub(crate) fn holder_of(file: &File, kind: LockKind) -> Holder {
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Holder::Unknown };
    linux::holder(file, kind, &locks)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File, Metadata};
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::{Holder, LockKind};

    /// Finds the holder in the text of `/proc/locks`.
    pub(super) fn holder(file: &File, kind: LockKind, locks: &str) -> Holder {
        let Ok(found) = file.metadata() else { return Holder::Unknown };
        // The /proc of another PID namespace has other process ids.
        let own = std::process::id();
        if fs::read_link("/proc/self").ok() != Some(PathBuf::from(own.to_string())) {
            return Holder::Unknown;
        }
        let pid = locks.lines().find_map(|line| {
            let (pid, device) = parse(line, kind, found.ino())?;
            match has_open(pid, &found) {
                Some(has_it) => has_it,
                // Another user's process: only its lock is known.
                None => device == device_of(&found),
            }
            .then_some(pid)
        });
        match pid {
            Some(pid) if pid == own => Holder::ThisProcess,
            Some(pid) => Holder::Process(pid),
            None => Holder::Unknown,
        }
    }

    /// Reads the process and the device from a line about a lock on this inode.
    ///
    /// ```text
    /// 1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF
    /// 1: -> FLOCK  ADVISORY  WRITE 4712 fe:01:1234 0 EOF     waits
    /// ```
    fn parse(line: &str, kind: LockKind, inode: u64) -> Option<(u32, &str)> {
        let mut fields = line.split_whitespace().skip(1);
        let (lock, _, mode) = (fields.next()?, fields.next()?, fields.next()?);
        let pid = fields.next()?.parse().ok().filter(|pid| *pid > 0)?;
        let (device, found) = fields.next()?.rsplit_once(':')?;
        let is_it = lock == "FLOCK" && mode == kind.word() && found.parse() == Ok(inode);
        is_it.then_some((pid, device))
    }

    fn device_of(found: &Metadata) -> String {
        let device = found.dev();
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        format!("{major:02x}:{minor:02x}")
    }

    /// Whether a process has the file open; `None` if that is not permitted.
    fn has_open(pid: u32, file: &Metadata) -> Option<bool> {
        let is_it = |found: Metadata| (found.dev(), found.ino()) == (file.dev(), file.ino());
        match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(open) => Some(open.flatten().any(|one| fs::metadata(one.path()).is_ok_and(is_it))),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            Err(_) => Some(false),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn line(pid: u32, found: &Metadata) -> String {
            format!("1: FLOCK  ADVISORY  WRITE {pid} {}:{} 0 EOF", device_of(found), found.ino())
        }

        #[test]
        fn a_process_is_named_only_if_it_has_the_file_open() {
            let file = tempfile::tempfile().unwrap();
            let found = file.metadata().unwrap();
            let own = std::process::id();
            let holder = |locks: &str| holder(&file, LockKind::Exclusive, locks);
            assert_eq!(holder(&line(own, &found)), Holder::ThisProcess);
            // No process has this id: ids end at four million.
            assert_eq!(holder(&line(99_999_999, &found)), Holder::Unknown);
            assert_eq!(holder(&line(0, &found)), Holder::Unknown);
            // A process that reuses the id of one that ended.
            let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let found_holder = holder(&line(other.id(), &found));
            other.kill().unwrap();
            other.wait().unwrap();
            assert_eq!(found_holder, Holder::Unknown);
            assert_eq!(holder(""), Holder::Unknown);
        }

        #[test]
        fn waiters_and_other_locks_are_ignored() {
            let file = tempfile::tempfile().unwrap();
            let held = line(std::process::id(), &file.metadata().unwrap());
            for other in [
                held.replace("FLOCK", "-> FLOCK"),
                held.replace("FLOCK", "POSIX"),
                held.replace("WRITE", "READ"),
                held.replace(" 0 EOF", "9 0 EOF"),
            ] {
                assert_eq!(holder(&file, LockKind::Exclusive, &other), Holder::Unknown, "{other}");
            }
            let shared = held.replace("WRITE", "READ");
            assert_eq!(holder(&file, LockKind::Shared, &shared), Holder::ThisProcess);
        }
    }
}
