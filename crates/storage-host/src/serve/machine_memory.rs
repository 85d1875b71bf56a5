//! How much memory this process may use.

use std::fs;
use std::path::Path;

/// The memory that is assumed where the system does not tell.
const UNKNOWN: usize = 4 << 30;

/// The bytes of memory of this machine, or of the control group of this process if that has
/// less.
pub(super) fn bytes() -> usize {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let of_groups = group_in(&groups).and_then(|group| limit(Path::new("/sys/fs/cgroup"), group));
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_in(&text));
    of_groups.into_iter().chain(machine).min().unwrap_or(UNKNOWN)
}

/// The total in `/proc/meminfo`.
fn total_in(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The group of version 2 in `/proc/self/cgroup`.
fn group_in(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::/"))
}

/// The lowest limit of a group and those that contain it. In a container the group may have
/// another path than the file says, and its limit is at the root.
fn limit(root: &Path, group: &str) -> Option<usize> {
    let path = root.join(group);
    let groups = path.ancestors().take_while(|path| path.starts_with(root));
    // A group without a limit has `max`.
    let limits = groups.filter_map(|group| {
        let text = fs::read_to_string(group.join("memory.max")).ok()?;
        text.trim().parse().ok()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_in_kibibytes() {
        let text = "MemTotal:       24684092 kB\nMemFree:         1 kB\n";
        assert_eq!(total_in(text), Some(24_684_092 << 10));
        assert_eq!(total_in("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_lowest_limit_of_the_groups_counts() {
        assert_eq!(group_in("1:cpu:/x\n0::/a/b\n"), Some("a/b"));
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(limit(root, "a/b"), None);
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(limit(root, "a/b"), None);
        fs::write(root.join("a/memory.max"), "2000\n").unwrap();
        assert_eq!(limit(root, "a/b"), Some(2_000));
        fs::write(root.join("a/b/memory.max"), "1000\n").unwrap();
        assert_eq!(limit(root, "a/b"), Some(1_000));
        // The path of the host, which a container does not see.
        fs::write(root.join("memory.max"), "500\n").unwrap();
        assert_eq!(limit(root, "missing/b"), Some(500));
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(bytes() > 1 << 20);
    }
}
