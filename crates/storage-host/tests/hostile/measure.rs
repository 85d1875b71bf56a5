//! How much memory this process takes.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ALLOCATED;

/// Memory as it stood when an attack began.
pub(crate) struct Baseline {
    allocated: usize,
    resident: Option<u64>,
    group: Result<Group, String>,
    guests_own: u64,
}

/// The most that was taken since: of the allocator, of resident pages, and as the
/// kernel counts a memory cgroup.
pub(crate) struct Peaks {
    pub(crate) allocated: u64,
    pub(crate) resident: Option<u64>,
    pub(crate) group: Result<u64, String>,
}

impl Baseline {
    /// Begins to count. `guests_own` is what the guests' memories may grow by from
    /// now on; the kernel ends the process if it takes `allowed` more than that.
    pub(crate) fn new(guests_own: u64, allowed: u64) -> Self {
        let group = Group::enter(guests_own + allowed);
        ALLOCATED.reset_peak_usage();
        // Lets the kernel count the highest number of resident pages anew.
        let resident = fs::write("/proc/self/clear_refs", "5").ok().and_then(|()| status("VmRSS:"));
        Self { allocated: ALLOCATED.current_usage(), resident, group, guests_own }
    }

    pub(crate) fn peaks(&self) -> Peaks {
        let allocated = ALLOCATED.peak_usage().saturating_sub(self.allocated) as u64;
        let resident = self.resident.and_then(|before| {
            Some(status("VmHWM:")?.saturating_sub(before).saturating_sub(self.guests_own))
        });
        let group = match &self.group {
            Ok(group) => group.peak().map(|peak| peak.saturating_sub(self.guests_own)),
            Err(why) => Err(why.clone()),
        };
        Peaks { allocated, resident, group }
    }
}

fn status(field: &str) -> Option<u64> {
    kilobytes("/proc/self/status", field)
}

/// The available memory of the machine.
pub(crate) fn available_memory() -> Option<u64> {
    kilobytes("/proc/meminfo", "MemAvailable:")
}

fn kilobytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

/// A memory cgroup with this process alone, in the first or the second version.
struct Group {
    peak: PathBuf,
}

/// Where groups are, and the files for their limit and their highest use.
const VERSIONS: [(&str, &str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
];

fn dir(root: &str, process: u32) -> PathBuf {
    Path::new(root).join(format!("storage-host-hostile-{process}"))
}

impl Group {
    fn enter(limit: u64) -> Result<Self, String> {
        let mut why = String::from("there is no memory cgroup");
        for (root, limit_file, peak_file) in VERSIONS {
            match Self::enter_below(root, limit_file, peak_file, limit) {
                Ok(group) => return Ok(group),
                Err(error) => why = format!("{root}: {error}"),
            }
        }
        Err(why)
    }

    fn enter_below(
        root: &str,
        limit_file: &str,
        peak_file: &str,
        limit: u64,
    ) -> std::io::Result<Self> {
        // Without it this is another kind of group, or none.
        fs::metadata(Path::new(root).join("cgroup.procs"))?;
        let process = std::process::id();
        let dir = dir(root, process);
        fs::create_dir(&dir)?;
        let entered = write(&dir.join(limit_file), limit)
            .and_then(|()| fs::metadata(dir.join(peak_file)))
            .and_then(|_| write(&dir.join("cgroup.procs"), process.into()));
        if let Err(error) = entered {
            let _ = fs::remove_dir(&dir);
            return Err(error);
        }
        Ok(Self { peak: dir.join(peak_file) })
    }

    fn peak(&self) -> Result<u64, String> {
        let text = fs::read_to_string(&self.peak).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| format!("{text:?} is no number"))
    }
}

/// Removes the group of a process that has ended.
pub(crate) fn remove_group_of(process: u32) {
    for (root, _, _) in VERSIONS {
        let _ = fs::remove_dir(dir(root, process));
    }
}

/// Writes a number to a file that is there.
fn write(file: &Path, number: u64) -> std::io::Result<()> {
    use std::io::Write as _;
    fs::OpenOptions::new().write(true).open(file)?.write_all(number.to_string().as_bytes())
}
