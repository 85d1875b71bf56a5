//! Which process has a lock, where the system tells.
//!
//! A process is named only when it is known to have the file open: numbers that
//! are written into a file outlive their process, and mean another one in
//! another container.

use std::fs::File;

/// Who has a file locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux tells"))]
pub(crate) enum Holder {
    ThisProcess,
    Process(u32),
    /// It may be in another container or on another machine.
    Unknown,
}

/// How the lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// By one, who writes.
    Alone,
    /// By any number, who read.
    Shared,
}

impl Held {
    /// The lock type as in `/proc/locks`.
    #[cfg(target_os = "linux")]
    fn word(self) -> &'static str {
        match self {
            Self::Alone => "WRITE",
            Self::Shared => "READ",
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn holder_of(_file: &File, _held: Held) -> Holder {
    Holder::Unknown
}

/// The process that has the file locked.
#[cfg(target_os = "linux")]
pub(crate) fn holder_of(file: &File, held: Held) -> Holder {
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Holder::Unknown };
    linux::holder(file, held, &locks)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File, Metadata};
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt;
    use std::path::PathBuf;

    use super::{Held, Holder};

    /// The same from the text of `/proc/locks`.
    pub(super) fn holder(file: &File, held: Held, locks: &str) -> Holder {
        let Ok(found) = file.metadata() else { return Holder::Unknown };
        // Where /proc is that of another PID namespace, its numbers mean other
        // processes than here.
        let own = std::process::id();
        if fs::read_link("/proc/self").ok() != Some(PathBuf::from(own.to_string())) {
            return Holder::Unknown;
        }
        let pid = locks.lines().find_map(|line| {
            let (pid, device) = parse(line, held, found.ino())?;
            match has_open(pid, &found) {
                Some(has_it) => has_it,
                // Another user's process, of which only the lock is known.
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

    /// The process and the device of a line about a lock on this inode.
    ///
    /// ```text
    /// 1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF
    /// 1: -> FLOCK  ADVISORY  WRITE 4712 fe:01:1234 0 EOF     waits for it
    /// ```
    fn parse(line: &str, held: Held, inode: u64) -> Option<(u32, &str)> {
        let mut fields = line.split_whitespace().skip(1);
        let (kind, _, how) = (fields.next()?, fields.next()?, fields.next()?);
        let pid = fields.next()?.parse().ok().filter(|pid| *pid > 0)?;
        let (device, found) = fields.next()?.rsplit_once(':')?;
        let is_it = kind == "FLOCK" && how == held.word() && found.parse() == Ok(inode);
        is_it.then_some((pid, device))
    }

    fn device_of(found: &Metadata) -> String {
        let device = found.dev();
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        format!("{major:02x}:{minor:02x}")
    }

    /// Whether a process has the file open; `None` if it may not be looked at.
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
            let holder = |locks: &str| holder(&file, Held::Alone, locks);
            assert_eq!(holder(&line(own, &found)), Holder::ThisProcess);
            // Nobody has this number: numbers end at four million.
            assert_eq!(holder(&line(99_999_999, &found)), Holder::Unknown);
            assert_eq!(holder(&line(0, &found)), Holder::Unknown);
            // A process that has taken over the number of one that has ended.
            let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            let told = holder(&line(other.id(), &found));
            other.kill().unwrap();
            other.wait().unwrap();
            assert_eq!(told, Holder::Unknown);
            assert_eq!(holder(""), Holder::Unknown);
        }

        #[test]
        fn those_who_wait_and_locks_of_another_kind_are_no_holders() {
            let file = tempfile::tempfile().unwrap();
            let held = line(std::process::id(), &file.metadata().unwrap());
            for other in [
                held.replace("FLOCK", "-> FLOCK"),
                held.replace("FLOCK", "POSIX"),
                held.replace("WRITE", "READ"),
                held.replace(" 0 EOF", "9 0 EOF"),
            ] {
                assert_eq!(holder(&file, Held::Alone, &other), Holder::Unknown, "{other}");
            }
            let shared = held.replace("WRITE", "READ");
            assert_eq!(holder(&file, Held::Shared, &shared), Holder::ThisProcess);
        }
    }
}
